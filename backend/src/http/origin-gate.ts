// The public port's door for web pages (WEB-1): refuses what `judgeOrigin` refuses before anything is read or counted
// against a limit, answers preflights, and lets the pages that may ask read every answer, refusals among them.

import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import { refuseUpgrade } from '../gateway/refuse-upgrade.ts'
import type { Log } from '../telemetry/log.ts'
import type { HttpMetrics } from '../telemetry/metrics.ts'
import { refuse } from './answer.ts'
import { judgeOrigin, type OriginHeaders, type OriginRules, type OriginVerdict } from './origins.ts'

type Refused = Extract<OriginVerdict, { type: 'refused' }>['code']

/** Counts a refused request, and logs what it named. */
export type NoteForeign = (port: 'public' | 'admin', code: Refused, headers: OriginHeaders) => void

export interface OriginGateParts {
  readonly rules: OriginRules
  readonly noteForeign: NoteForeign
}

type Upgrade = (request: IncomingMessage, socket: Duplex, head: Buffer) => void

const EXPECTED = {
  unknown_host: 'an address, localhost, or a name of VALISE_ORIGINS as Host',
  foreign_origin: 'a page of this machine, or an origin listed in VALISE_ORIGINS',
} as const
const MAX_LOGGED_LENGTH = 100
const PREFLIGHT_HEADERS = {
  'Access-Control-Allow-Methods': 'GET, PUT, POST, DELETE',
  'Access-Control-Allow-Headers': 'Authorization, Content-Type',
  'Access-Control-Max-Age': '600',
} as const

export const createNoteForeign =
  ({ log, metrics }: { log: Log; metrics: Pick<HttpMetrics, 'countForeignRequest'> }): NoteForeign =>
  (port, code, { host, origin }) => {
    metrics.countForeignRequest(code)
    log.warn(
      { event: 'http.origin.refuse', port, code, host: shorten(host), origin: shorten(origin) },
      'A request was refused: this port does not serve its web page, or is not reached by its Host',
    )
  }

export function createOriginGate({ rules, noteForeign }: OriginGateParts) {
  const judge = (request: IncomingMessage): OriginVerdict => {
    const verdict = judgeOrigin(rules, request.headers)
    if (verdict.type === 'refused') noteForeign('public', verdict.code, request.headers)
    return verdict
  }

  const answerPreflight = (response: ServerResponse): void => {
    for (const [name, value] of Object.entries(PREFLIGHT_HEADERS)) response.setHeader(name, value)
    response.statusCode = 204
    response.end()
  }

  return {
    guard:
      (handler: RequestListener): RequestListener =>
      (request, response) => {
        const verdict = judge(request)
        response.setHeader('Vary', 'Origin')
        if (verdict.type === 'refused') {
          // Its body is not read.
          response.setHeader('Connection', 'close')
          return refuse(response, verdict.code, EXPECTED[verdict.code])
        }
        if (verdict.origin !== undefined) {
          // Nothing here depends on cookies, so credentials stay out.
          response.setHeader('Access-Control-Allow-Origin', verdict.origin)
          response.setHeader('Access-Control-Expose-Headers', 'Retry-After, X-Request-Id')
          if (isPreflight(request)) return answerPreflight(response)
        }
        handler(request, response)
      },
    guardUpgrade:
      (upgrade: Upgrade): Upgrade =>
      (request, socket, head) => {
        const verdict = judge(request)
        if (verdict.type === 'refused') return refuseUpgrade(socket, verdict.code)
        upgrade(request, socket, head)
      },
  }
}

const isPreflight = ({ method, headers }: IncomingMessage): boolean =>
  method === 'OPTIONS' && headers['access-control-request-method'] !== undefined

const shorten = (header: string | undefined): string | undefined => header?.slice(0, MAX_LOGGED_LENGTH)
