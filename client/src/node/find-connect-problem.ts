// What an error of Node's sockets, TLS or HTTP, or of `ws`, says about why no connection came about.

import type { ConnectProblem } from '../connect-problem.ts'

const PROBLEM_BY_CODE: Readonly<Record<string, ConnectProblem>> = {
  ECONNREFUSED: 'refused',
  ENOTFOUND: 'unknown_name',
  EAI_AGAIN: 'unknown_name',
  ENETUNREACH: 'unreachable',
  EHOSTUNREACH: 'unreachable',
  EADDRNOTAVAIL: 'unreachable',
  ETIMEDOUT: 'timeout',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'untrusted_certificate',
  SELF_SIGNED_CERT_IN_CHAIN: 'untrusted_certificate',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'untrusted_certificate',
  UNABLE_TO_GET_ISSUER_CERT: 'untrusted_certificate',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'untrusted_certificate',
  CERT_UNTRUSTED: 'untrusted_certificate',
  ERR_TLS_CERT_ALTNAME_INVALID: 'other_name_in_certificate',
  CERT_HAS_EXPIRED: 'certificate_over',
  CERT_NOT_YET_VALID: 'certificate_over',
  ERR_SSL_WRONG_VERSION_NUMBER: 'plain_behind_tls',
  ERR_SSL_PACKET_LENGTH_TOO_LONG: 'plain_behind_tls',
  EPROTO: 'plain_behind_tls',
  ECONNRESET: 'broken_off',
}

/** A TLS alert or record where an HTTP answer should begin. */
const PARSER_CODE = /^HPE_/
const WS_ANSWER = /^Unexpected server response: (\d{3})$/

/** With a proxy between, these are about the way to the proxy. */
const OF_THE_WAY: ReadonlySet<ConnectProblem> = new Set(['refused', 'unknown_name', 'unreachable', 'timeout'])

export function findConnectProblem(
  error: unknown,
  { isProxied }: { readonly isProxied: boolean },
): ConnectProblem | undefined {
  const problem = problemOf(error)
  return isProxied && problem !== undefined && OF_THE_WAY.has(problem) ? 'proxy_unreachable' : problem
}

/** Of the error itself, of what caused it, and of the addresses that were tried one after another. */
function problemOf(error: unknown, depth = 0): ConnectProblem | undefined {
  if (!(error instanceof Error) || depth > 3) return undefined
  const code = 'code' in error ? String(error.code) : ''
  const known = PROBLEM_BY_CODE[code]
  if (known !== undefined) return known
  if (PARSER_CODE.test(code)) return 'tls_behind_plain'
  const status = WS_ANSWER.exec(error.message)?.[1]
  if (status !== undefined) return problemOfStatus(Number(status))
  const inner = error instanceof AggregateError ? error.errors : [error.cause]
  for (const cause of inner) {
    const problem = problemOf(cause, depth + 1)
    if (problem !== undefined) return problem
  }
  return undefined
}

/** A Valise server that refuses an upgrade says 403, 429 or 503: that is its own word, and no matter of a proxy. */
function problemOfStatus(status: number): ConnectProblem | undefined {
  if (status === 407) return 'proxy_refused'
  if (status >= 300 && status < 400) return 'redirect'
  return [403, 429, 503].includes(status) ? undefined : 'no_upgrade'
}
