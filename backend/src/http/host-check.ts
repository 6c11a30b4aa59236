// Under which names the admin port answers with numbers. A page of a foreign site can make a browser here look up a name
// of its own as this machine's address, and would then read what its "own" server says (DNS rebinding): its Host names
// that site. So a Host is an address, a name without a dot, which no foreign site has, or one the operator named.

import { isIP } from 'node:net'

/** `host` is the header, port and all; `names` are lower case. */
export function isKnownHost(host: string | undefined, names: readonly string[]): boolean {
  const name = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+))(?::\d{1,5})?$/.exec(host ?? '')
  if (name === null) return false
  const [, ipv6, other = ''] = name
  if (ipv6 !== undefined) return isIP(ipv6) === 6
  const known = other.toLowerCase()
  return isIP(known) === 4 || /^[a-z0-9_-]+$/.test(known) || known.endsWith('.localhost') || names.includes(known)
}
