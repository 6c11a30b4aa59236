// The address a connection is counted by (LIM-4): the socket's, or behind a trusted proxy the last one in
// X-Forwarded-For that is not a trusted proxy itself. What an untrusted peer writes there never counts.

import type { IncomingMessage } from 'node:http'
import { BlockList, isIP } from 'node:net'

export interface TrustedProxies {
  includes(address: string): boolean
}

const FAMILY = { 4: 'ipv4', 6: 'ipv6' } as const

const familyOf = (address: string): 'ipv4' | 'ipv6' | undefined => {
  const version = isIP(address)
  return version === 4 || version === 6 ? FAMILY[version] : undefined
}

/** Addresses and networks such as 10.0.0.0/8 or fd00::/8; undefined when one of them is neither. */
export function parseTrustedProxies(entries: readonly string[]): TrustedProxies | undefined {
  const list = new BlockList()
  for (const entry of entries) {
    const [address = '', prefix, ...more] = entry.split('/')
    const family = familyOf(address)
    if (family === undefined || more.length > 0) return undefined
    if (prefix === undefined) {
      list.addAddress(address, family)
    } else {
      if (!/^\d{1,3}$/.test(prefix) || Number(prefix) > (family === 'ipv4' ? 32 : 128)) return undefined
      list.addSubnet(address, Number(prefix), family)
    }
  }
  return {
    includes: (address) => {
      const family = familyOf(address)
      return family !== undefined && list.check(address, family)
    },
  }
}

/** The key that a request's limits are kept by. */
export function clientAddressOf(request: IncomingMessage, proxies: TrustedProxies): string {
  const header = request.headers['x-forwarded-for']
  const forwardedFor = Array.isArray(header) ? header.join(',') : header
  return addressKey(clientAddress(request.socket.remoteAddress ?? '', forwardedFor, proxies))
}

/** `forwardedFor` is the header as Node joins it. An entry that is no address ends the search. */
export function clientAddress(
  socketAddress: string,
  forwardedFor: string | undefined,
  proxies: TrustedProxies,
): string {
  let address = plain(socketAddress)
  const hops = forwardedFor?.split(',') ?? []
  while (proxies.includes(address)) {
    const hop = plain(hops.pop()?.trim() ?? '')
    if (isIP(hop) === 0) return address
    address = hop
  }
  return address
}

/** What a bucket is kept by: an IPv6 customer owns at least a /64 and could use a new address for each request. */
export function addressKey(address: string): string {
  if (isIP(address) !== 6) return address
  const [head = '', tail] = address.toLowerCase().split('%')[0]?.split('::') ?? []
  const groups = head === '' ? [] : head.split(':')
  const tailGroups = tail === undefined || tail === '' ? [] : tail.split(':')
  const zeros = tail === undefined ? 0 : 8 - groups.length - tailGroups.length
  const all = [...groups, ...Array.from({ length: Math.max(0, zeros) }, () => '0'), ...tailGroups]
  return all
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ''))
    .join(':')
    .concat('::/64')
}

/** Without a port, brackets, or the form that IPv4 takes on an IPv6 socket. */
function plain(text: string): string {
  const bracketed = /^\[([^\]]*)\](?::\d+)?$/.exec(text)?.[1]
  const withPort = /^([\d.]+):\d+$/.exec(text)?.[1]
  const address = bracketed ?? withPort ?? text
  return /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1] ?? address
}

export function networksOf(address: string): readonly { readonly key: string; readonly weight: number }[] {
  const v4 = /^(\d+\.\d+\.\d+)\.\d+$/.exec(address)
  if (v4 !== null) return [{ key: address, weight: 1 }, { key: `${v4[1]}.0/24`, weight: 8 }]
  return [{ key: address, weight: 1 }]
}
