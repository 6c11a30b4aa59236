// Why no connection to a server came about, as far as the platform says, in words with what to do. Browsers say nothing.

export const CONNECT_PROBLEMS = [
  'refused',
  'unknown_name',
  'unreachable',
  'timeout',
  'untrusted_certificate',
  'other_name_in_certificate',
  'certificate_over',
  'plain_behind_tls',
  'tls_behind_plain',
  'broken_off',
  'redirect',
  'no_upgrade',
  'proxy_unreachable',
  'proxy_refused',
  'proxy_kind',
] as const
export type ConnectProblem = (typeof CONNECT_PROBLEMS)[number]

/** A request that never reached a server. */
export class ConnectError extends Error {
  override readonly name = 'ConnectError'
  readonly problem: ConnectProblem

  constructor(problem: ConnectProblem, options?: ErrorOptions) {
    super(describeConnectProblem(problem), options)
    this.problem = problem
  }
}

const TEXTS: Readonly<Record<ConnectProblem, string>> = {
  refused: 'nothing listens there; is the server running, and is the port right?',
  unknown_name: 'its name is not known; check its spelling, and that this device is online',
  unreachable: 'there is no way to it from here; check the network and the address',
  timeout: 'it does not answer; check the address, and whether a firewall stands between',
  untrusted_certificate:
    'its certificate is signed by nobody this device trusts; install the certificate authority (NODE_EXTRA_CA_CERTS names its file)',
  other_name_in_certificate: 'its certificate is for another name; use the name that the certificate has',
  certificate_over: 'its certificate is not valid at the present time; renew it, or set the clock of this device',
  plain_behind_tls: 'it does not speak TLS; use ws:// instead of wss://, or put TLS in front of it',
  tls_behind_plain: 'it speaks TLS; use wss:// instead of ws://',
  broken_off: 'it ends the connection at once; a port that speaks TLS does so when it is asked without it (use wss://)',
  redirect: 'it redirects elsewhere; use the address that it redirects to',
  no_upgrade:
    'something answers, but it does not pass WebSockets on; a proxy in front of the server must allow the upgrade',
  proxy_unreachable:
    'the proxy that HTTP_PROXY or HTTPS_PROXY names cannot be reached; correct it, or add the server to NO_PROXY',
  proxy_refused:
    'the proxy that HTTP_PROXY or HTTPS_PROXY names refuses; put user and password into its URL, or add the server to NO_PROXY',
  proxy_kind:
    'only http:// and https:// proxies can be used; set HTTP_PROXY or HTTPS_PROXY to one, or add the server to NO_PROXY',
}

/** Without the address, in lower case and without a full stop. */
export const describeConnectProblem = (problem: ConnectProblem): string => TEXTS[problem]

/** A sentence with the address; where the platform does not say why, the connection may also have broken off. */
export const describeUnreached = (serverUrl: string, problem: ConnectProblem | undefined): string =>
  `The server at ${serverUrl} ${problem === undefined ? 'cannot be reached, or broke off' : `cannot be reached: ${describeConnectProblem(problem)}`}.`
