// The proxy between this device and a server, as HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name it. Plain and TLS
// connections both go through it by CONNECT, so it sees no more than the server's name and port. Servers on this machine
// are reached without it.

import type { Agent } from 'node:http'
import { HttpsProxyAgent } from 'https-proxy-agent'
import { getProxyForUrl } from 'proxy-from-env'
import { ConnectError } from '../connect-problem.ts'

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/i

/** For a ws, wss, http or https URL; undefined: without a proxy. Throws a ConnectError for a proxy that cannot be used. */
export function proxyAgentFor(url: string): Agent | undefined {
  const target = new URL(url.replace(/^ws/, 'http'))
  if (LOOPBACK.test(target.hostname)) return undefined
  const proxy = getProxyForUrl(target.href)
  if (proxy === '') return undefined
  if (!/^https?:\/\//.test(proxy) || !URL.canParse(proxy)) throw new ConnectError('proxy_kind')
  return new HttpsProxyAgent(proxy)
}
