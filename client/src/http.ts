// The port to plain HTTP requests: first contact and the mailboxes of linking and pairing. Bodies are bounded by the implementation.

export interface HttpRequest {
  readonly method: 'GET' | 'PUT' | 'POST' | 'DELETE'
  readonly url: string
  /** The Authorization header. */
  readonly authorization?: string
  readonly body?: Uint8Array
  readonly signal?: AbortSignal
}

export interface HttpResponse {
  readonly status: number
  readonly body: Uint8Array
}

/** Rejects when the server cannot be reached, the answer is too large or too slow, or the signal aborts. */
export type Http = (request: HttpRequest) => Promise<HttpResponse>

/** `ws://host` → `http://host`, `wss://host` → `https://host`, without a trailing slash; `undefined` for anything else. */
export function httpUrlOf(serverUrl: string): string | undefined {
  const url = URL.canParse(serverUrl) ? new URL(serverUrl) : undefined
  if (url === undefined || url.search !== '' || url.hash !== '' || url.username !== '') return undefined
  const scheme = url.protocol === 'ws:' ? 'http:' : url.protocol === 'wss:' ? 'https:' : undefined
  return scheme === undefined ? undefined : `${scheme}//${url.host}${url.pathname.replace(/\/+$/, '')}`
}
