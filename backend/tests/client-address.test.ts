// Whose address counts when proxies stand between, and who may say so.

import { describe, expect, test } from 'vitest'
import { ConfigError, parseConfig } from '../src/config.ts'
import { addressKey, clientAddress, parseTrustedProxies } from '../src/limits/client-address.ts'

const trusted = (...entries: string[]) => parseTrustedProxies(entries)!

describe('trusted proxies', () => {
  const proxies = trusted('10.0.0.0/8', '192.0.2.7', 'fd00::/8')
  test.each([
    ['no proxy is trusted', '203.0.113.5', '198.51.100.1', trusted(), '203.0.113.5'],
    ['a peer that is no proxy', '203.0.113.5', '198.51.100.1', proxies, '203.0.113.5'],
    ['one proxy', '10.1.2.3', '198.51.100.1', proxies, '198.51.100.1'],
    ['one proxy on an IPv6 socket', '::ffff:10.1.2.3', '198.51.100.1', proxies, '198.51.100.1'],
    ['a proxy that is one address', '192.0.2.7', '198.51.100.1', proxies, '198.51.100.1'],
    ['its neighbour', '192.0.2.8', '198.51.100.1', proxies, '192.0.2.8'],
    ['two proxies', '10.1.2.3', '198.51.100.1, 10.9.9.9', proxies, '198.51.100.1'],
    ['a forged entry before the true one', '10.1.2.3', '10.0.0.1, 1.2.3.4, 198.51.100.1', proxies, '198.51.100.1'],
    ['a proxy that speaks IPv6', 'fd12::1', '2001:db8::9', proxies, '2001:db8::9'],
    ['entries with ports', '10.1.2.3', '198.51.100.1:4711', proxies, '198.51.100.1'],
    ['entries with brackets', '10.1.2.3', '[2001:db8::9]:443', proxies, '2001:db8::9'],
    ['no header', '10.1.2.3', undefined, proxies, '10.1.2.3'],
    ['proxies only', '10.1.2.3', '10.0.0.1', proxies, '10.0.0.1'],
    ['what is no address', '10.1.2.3', '198.51.100.1, unknown', proxies, '10.1.2.3'],
    ['an empty header', '10.1.2.3', '', proxies, '10.1.2.3'],
  ])('LIM-4: %s', (_case, socketAddress, forwardedFor, list, expected) => {
    expect(clientAddress(socketAddress, forwardedFor, list)).toBe(expected)
  })

  test('LIM-4: what is neither an address nor a network stops the start', () => {
    for (const text of ['10.0.0.0/33', 'fd00::/129', '10.0.0', 'proxy.example', '10.0.0.0/8/8', '10.0.0.0/x']) {
      expect(() => parseConfig({ VALISE_TRUSTED_PROXIES: text }, {})).toThrow(ConfigError)
    }
    const { trustedProxies } = parseConfig({ VALISE_TRUSTED_PROXIES: '10.0.0.0/8, ::1' }, {})
    expect(['10.1.1.1', '::1', '11.1.1.1'].map(trustedProxies.includes)).toEqual([true, true, false])
  })
})

test('LIM-2: an IPv6 address counts with its /64, whatever way it is written', () => {
  expect(addressKey('203.0.113.5')).toBe('203.0.113.5')
  const same = ['2001:db8:0:1::9', '2001:DB8:0:1:a:b:c:d', '2001:0db8:0000:0001::'].map(addressKey)
  expect(new Set(same)).toEqual(new Set(['2001:db8:0:1::/64']))
  expect(addressKey('::1')).toBe('0:0:0:0::/64')
  expect(addressKey('2001:db8:0:2::9')).not.toBe(same[0])
})
