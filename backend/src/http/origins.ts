// Which web pages may use a port of this server (WEB-1, WEB-2). A browser on this machine lets any page send requests here,
// and a page can point a name of its own at this machine's address (DNS rebinding). The browser gives both away: Origin
// names the page's site, and Host the name that it was reached by. One function decides for every request.

import { isIP } from 'node:net'
import type { HttpErrorCode } from '@valise/protocol'

/** Whose pages a port serves, and the names under which it may be reached. */
export type OriginRules =
  /** Pages of this machine and of the listed origins. Host is an address, localhost or a listed name. */
  | { readonly pages: 'local_and_listed'; readonly origins: readonly string[]; readonly names: readonly string[] }
  /** Pages of the listed origins alone, under any name. */
  | { readonly pages: 'listed'; readonly origins: readonly string[] }
  | { readonly pages: 'any' }

/** Headers of a request, as Node gives them. */
export interface OriginHeaders {
  readonly host?: string | undefined
  readonly origin?: string | undefined
  readonly 'sec-fetch-site'?: string | string[] | undefined
  readonly 'sec-fetch-dest'?: string | string[] | undefined
}

export type OriginVerdict =
  /** `origin` is the page that may read the answer; undefined when no page asks. */
  | { readonly type: 'allowed'; readonly origin: string | undefined }
  | { readonly type: 'refused'; readonly code: Extract<HttpErrorCode, 'unknown_host' | 'foreign_origin'> }

/** The rules of the public port: strict while only this machine can reach it, unless an operator lists origins. */
export function publicRules(bindHost: string, origins: readonly string[]): OriginRules {
  if (isLoopback(bindHost.toLowerCase())) return { pages: 'local_and_listed', origins, names: origins.flatMap(nameOf) }
  return origins.length === 0 ? { pages: 'any' } : { pages: 'listed', origins }
}

/** The rules of the admin port: numbers are for known names only, on any address. */
export function adminRules(bindHost: string, names: readonly string[]) {
  const numbers: OriginRules = { pages: 'local_and_listed', origins: [], names }
  return { numbers, health: isLoopback(bindHost.toLowerCase()) ? numbers : ({ pages: 'any' } as const) }
}

export function judgeOrigin(rules: OriginRules, headers: OriginHeaders): OriginVerdict {
  if (rules.pages === 'local_and_listed' && !isKnownHost(headers.host, rules.names)) {
    return { type: 'refused', code: 'unknown_host' }
  }
  const { origin } = headers
  if (rules.pages === 'any') return { type: 'allowed', origin }
  if (origin === undefined) {
    return isEmbedded(headers) ? { type: 'refused', code: 'foreign_origin' } : { type: 'allowed', origin }
  }
  const known = parseOrigin(origin)
  const isListed = known !== undefined && rules.origins.includes(known)
  const isLocal = rules.pages === 'local_and_listed' && known !== undefined && nameOf(known).some(isLoopback)
  return isListed || isLocal ? { type: 'allowed', origin } : { type: 'refused', code: 'foreign_origin' }
}

/** As browsers write it: `https://app.example.org`, with a port unless it is the scheme's own. Undefined for other text. */
export function parseOrigin(text: string): string | undefined {
  if (!/^[a-z][a-z0-9+.-]*:\/\/[^/?#@\\\s,*]+$/i.test(text) || !URL.canParse(text)) return undefined
  const { origin, protocol } = new URL(text)
  // The URL standard gives an origin to web schemes only; those of apps are compared as they stand.
  return /^https?:$/.test(protocol) ? origin : text.toLowerCase()
}

/** `host` is the header, port and all. A name without a dot is not safe: anybody on the same network may answer to it. */
function isKnownHost(host: string | undefined, names: readonly string[]): boolean {
  const [, ipv6, other = ''] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+))(?::\d{1,5})?$/.exec(host ?? '') ?? []
  if (ipv6 !== undefined) return isIP(ipv6) === 6
  const name = other.toLowerCase()
  return isIP(name) === 4 || isLoopback(name) || names.includes(name)
}

/** A page of another site loads the address as an image, a script or a frame, for which browsers send no Origin. */
function isEmbedded(headers: OriginHeaders): boolean {
  return headers['sec-fetch-site'] === 'cross-site' && headers['sec-fetch-dest'] !== 'document'
}

/** Of an address to bind to or a host name, lower case, IPv6 without brackets. */
export function isLoopback(host: string): boolean {
  return /^(?:.+\.)?localhost\.?$/.test(host) || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))
}

/** The host of an origin of the web; none for the scheme of an app. */
function nameOf(origin: string): string[] {
  return /^https?:/.test(origin) ? [new URL(origin).hostname.replace(/^\[(.*)\]$/, '$1')] : []
}
