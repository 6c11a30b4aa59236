// The operator's commands over the admin port, for a server whose database no second process can open. Only this
// machine may ask, only with the token, and no web page: a page cannot leave out Origin, name another Host than the one
// it was loaded from, or send JSON with an Authorization header to a server that answers no preflight.

import { timingSafeEqual } from 'node:crypto'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { isIP, type Socket } from 'node:net'
import { HTTP_ERRORS, type HttpErrorCode } from '@valise/protocol'
import type { AdminOutcome } from '../admin/commands.ts'
import { BODY_TIMEOUT_MS, readBody } from './body.ts'

export interface AdminCommandsParts {
  readonly token: string
  /** Undefined: there is no such command. */
  run(name: string, input: unknown): Promise<AdminOutcome> | undefined
}

const MAX_BODY_BYTES = 4096
const PATH = /^\/admin\/([a-z-]{1,32})$/

/** Undefined: the path is none of a command. */
export function createAdminCommandsHttp({ token, run }: AdminCommandsParts) {
  const expectedToken = Buffer.from(`Bearer ${token}`)

  const refusalOf = (request: IncomingMessage): readonly [code: HttpErrorCode, expected: string] | undefined => {
    if (request.method !== 'POST') return ['method_not_allowed', 'POST']
    if (!isFromThisMachine(request.socket)) return ['not_local', 'a request from this machine']
    if (request.headers.origin !== undefined || !namesAddress(request.headers.host)) {
      return ['not_a_command', "no Origin, and the server's address as Host"]
    }
    if (request.headers['content-type'] !== 'application/json') return ['bad_content_type', 'application/json']
    const given = Buffer.from(request.headers.authorization ?? '')
    const isGiven = given.length === expectedToken.length && timingSafeEqual(given, expectedToken)
    return isGiven ? undefined : ['bad_token', 'the token in admin-access.json of the data folder']
  }

  return (request: IncomingMessage, response: ServerResponse, path: string): Promise<void> | undefined => {
    const name = PATH.exec(path)?.[1]
    if (name === undefined) return undefined
    const refuse = (code: HttpErrorCode, expected: string): void => {
      response.statusCode = HTTP_ERRORS[code].status
      response.setHeader('Connection', 'close')
      response.end(`${JSON.stringify({ code, expected })}\n`)
    }
    const answer = async (): Promise<void> => {
      const refusal = refusalOf(request)
      if (refusal !== undefined) return refuse(...refusal)
      const body = await readBody(request, MAX_BODY_BYTES)
      if (body === 'gone') return
      if (body === 'late') return refuse('body_late', `all of it within ${BODY_TIMEOUT_MS} ms`)
      if (body === 'too_long') return refuse('body_too_long', `at most ${MAX_BODY_BYTES} bytes`)
      const outcome = await run(name, parseJson(body))
      if (outcome === undefined) return refuse('unknown_command', 'a command of this version')
      if (!outcome.ok) return refuse('bad_input', `another value of ${outcome.field}`)
      response.end(`${JSON.stringify(outcome.output)}\n`)
    }
    return answer()
  }
}

/** By loopback, or from the address that it is sent to. */
const isFromThisMachine = ({ remoteAddress = '', localAddress }: Socket): boolean =>
  remoteAddress === localAddress || remoteAddress === '::1' || /^(?:::ffff:)?127\./.test(remoteAddress)

/** An address, or localhost: a name could be one that an attacker points at this machine. */
function namesAddress(host: string | undefined): boolean {
  const name = /^\[([^\]]+)\](?::\d+)?$|^([^:]+)(?::\d+)?$/.exec(host ?? '')
  const bare = name?.[1] ?? name?.[2] ?? ''
  return bare === 'localhost' || isIP(bare) !== 0
}

function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body).toString('utf8'))
  } catch {
    return undefined
  }
}
