// The admin port, loopback by default: liveness, readiness with reasons, metrics (DESIGN 12), and where the database is
// embedded the operator's commands.

import type { IncomingMessage, ServerResponse } from 'node:http'

export interface AdminHttpParts {
  /** Why this node should get no traffic; empty when it is ready. */
  readinessProblems(): Promise<readonly string[]>
  renderMetrics(): Promise<string>
  readonly metricsContentType: string
  /** Answers a command's path; undefined for another one, or where there are none. */
  answerCommand?:
    | ((request: IncomingMessage, response: ServerResponse, path: string) => Promise<void> | undefined)
    | undefined
}

/** Who asks whether this node is ready does not wait for a database that says nothing. */
const READY_TIMEOUT_MS = 2000

export function createAdminHttp(parts: AdminHttpParts) {
  const route = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const path = request.url?.split('?', 1)[0]
    response.setHeader('Cache-Control', 'no-store')
    if (path === '/metrics') {
      response.setHeader('Content-Type', parts.metricsContentType)
      response.end(await parts.renderMetrics())
      return
    }
    response.setHeader('Content-Type', 'application/json')
    if (path === '/live') {
      response.end('{"status":"live"}\n')
      return
    }
    if (path === '/ready') {
      const problems = await withinTime(parts.readinessProblems())
      response.statusCode = problems.length === 0 ? 200 : 503
      response.end(`${JSON.stringify({ status: problems.length === 0 ? 'ready' : 'not_ready', problems })}\n`)
      return
    }
    const answered = parts.answerCommand?.(request, response, path ?? '')
    if (answered !== undefined) return answered
    response.statusCode = 404
    response.end('{"code":"not_found","expected":"/live, /ready or /metrics"}\n')
  }

  return (request: IncomingMessage, response: ServerResponse): void => {
    route(request, response).catch(() => {
      response.statusCode = 500
      response.end()
    })
  }
}

async function withinTime(problems: Promise<readonly string[]>): Promise<readonly string[]> {
  let deadline: NodeJS.Timeout | undefined
  const expired = new Promise<readonly string[]>((resolve) => {
    deadline = setTimeout(() => resolve([`database: no answer in ${READY_TIMEOUT_MS} ms`]), READY_TIMEOUT_MS)
  })
  try {
    return await Promise.race([problems, expired])
  } finally {
    clearTimeout(deadline)
  }
}
