// The admin port, loopback by default: liveness, readiness with reasons, metrics, the status page with its numbers
// (DESIGN 12), all read only; and where the database is embedded the operator's commands. Whatever holds numbers is told
// to no page of a foreign site.

import type { IncomingMessage, ServerResponse } from 'node:http'
import { HTTP_ERRORS, type HttpErrorCode } from '@valise/protocol'
import type { Status } from '../status/status.ts'
import type { NoteForeign } from './origin-gate.ts'
import { judgeOrigin, type OriginRules } from './origins.ts'
import type { Readiness } from './readiness.ts'
import { PAGE_HEADERS, type PageFile } from './status-page.ts'

export interface AdminHttpParts {
  /** Never rejects. */
  readiness(): Promise<Readiness>
  renderMetrics(): Promise<string>
  readonly metricsContentType: string
  /** Answers a command's path; undefined for another one, or where there are none. */
  answerCommand?:
    | ((request: IncomingMessage, response: ServerResponse, path: string) => Promise<void> | undefined)
    | undefined
  readStatus(): Promise<Status>
  /** By path. */
  readonly page: ReadonlyMap<string, PageFile>
  /** For what holds numbers, and for what only says how the server is. */
  readonly rules: { readonly numbers: OriginRules; readonly health: OriginRules }
  readonly noteForeign: NoteForeign
}

interface Answer {
  readonly status?: number
  readonly contentType: string
  readonly body: string | Buffer
}

type Route = () => Promise<Answer>

const EXPECTED = {
  unknown_host: 'an address, localhost, or a name listed in VALISE_ADMIN_NAMES',
  foreign_origin: "no Origin but this machine's",
} as const

export function createAdminHttp(parts: AdminHttpParts) {
  const json = (value: unknown, status = 200): Answer => ({
    status,
    contentType: 'application/json',
    body: `${JSON.stringify(value)}\n`,
  })

  const refusal = (code: HttpErrorCode, expected: string): Answer => json({ code, expected }, HTTP_ERRORS[code].status)

  /** On a port that other machines reach, balancers and orchestrators ask by whatever name they have. */
  const openRoutes: Readonly<Record<string, Route>> = {
    '/live': async () => json({ status: 'live' }),
    '/ready': async () => {
      const { problems, notes } = await parts.readiness()
      const isReady = problems.length === 0
      return json({ status: isReady ? 'ready' : 'not_ready', problems, notes }, isReady ? 200 : 503)
    },
  }
  const guardedRoutes: Readonly<Record<string, Route>> = {
    '/metrics': async () => ({ contentType: parts.metricsContentType, body: await parts.renderMetrics() }),
    '/status.json': async () => json(await parts.readStatus()),
    ...Object.fromEntries([...parts.page].map(([path, file]) => [path, async () => file])),
  }

  const answer = async (request: IncomingMessage): Promise<Answer> => {
    const path = pathOf(request)
    const open = Object.hasOwn(openRoutes, path) ? openRoutes[path] : undefined
    const guarded = Object.hasOwn(guardedRoutes, path) ? guardedRoutes[path] : undefined
    const route = open ?? guarded
    if (route === undefined) {
      return refusal('not_found', '/, /status.json, /live, /ready or /metrics')
    }
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      return refusal('method_not_allowed', 'GET or HEAD')
    }
    const rules = guarded === undefined ? parts.rules.health : parts.rules.numbers
    const verdict = judgeOrigin(rules, request.headers)
    if (verdict.type === 'refused') {
      parts.noteForeign('admin', verdict.code, request.headers)
      return refusal(verdict.code, EXPECTED[verdict.code])
    }
    return route()
  }

  const respond = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    response.setHeader('Cache-Control', 'no-store')
    for (const [name, value] of Object.entries(PAGE_HEADERS)) response.setHeader(name, value)
    // A command looks at the Host by itself, and takes fewer.
    const answered = parts.answerCommand?.(request, response, pathOf(request))
    if (answered !== undefined) return answered
    const { status = 200, contentType, body } = await answer(request)
    response.statusCode = status
    response.setHeader('Content-Type', contentType)
    response.end(body)
  }

  return (request: IncomingMessage, response: ServerResponse): void => {
    respond(request, response).catch(() => {
      response.statusCode = 500
      response.end()
    })
  }
}

const pathOf = (request: IncomingMessage): string => request.url?.split('?', 1)[0] ?? ''
