// Which forms of DATABASE_URL are taken, and what the others are told.

import { describe, expect, test } from 'vitest'
import { ConfigError, parseConfig } from '../src/config.ts'
import { maskValue } from '../src/config-report.ts'
import { parseDatabaseUrl } from '../src/db/database-url.ts'

const urlsOf = (text: string): readonly string[] => {
  const parsed = parseDatabaseUrl(text)
  if (!parsed.ok) throw new Error(parsed.problem)
  return parsed.urls
}

describe('DATABASE_URL', () => {
  test('OPS-20: one host stays as it is, whatever its form', () => {
    for (const url of [
      'postgres://user:p%40ss@db.example.org:5432/valise',
      'postgresql://user@[::1]:5432/valise?sslmode=verify-full',
      'postgres://user@/valise?host=/run/postgresql&port=5433',
      'postgres://localhost/valise',
    ]) {
      expect(urlsOf(url), url).toEqual([url])
    }
  })

  test('OPS-20: several hosts become one URL each, in their order, without what only libpq knows', () => {
    expect(urlsOf('postgres://u:p@a:1,b:2,[::1]:3/v?target_session_attrs=read-write&sslmode=require')).toEqual([
      'postgres://u:p@a:1/v?sslmode=require',
      'postgres://u:p@b:2/v?sslmode=require',
      'postgres://u:p@[::1]:3/v?sslmode=require',
    ])
    expect(urlsOf('postgres://a,b/v?sslmode=require&target_session_attrs=primary')).toEqual([
      'postgres://a/v?sslmode=require',
      'postgres://b/v?sslmode=require',
    ])
    expect(urlsOf('postgres://a,b/v?target_session_attrs=any')).toEqual(['postgres://a/v', 'postgres://b/v'])
  })

  test.each([
    ['a raw @ in the password', 'postgres://u:p@ss@host/v', /percent-encode/],
    ['a raw / in the password', 'postgres://u:p/ss@host/v', /percent-encode/],
    ['a raw # in the password', 'postgres://u:p#ss@host/v', /percent-encode/],
    ['a broken port', 'postgres://u@host:port/v', /percent-encode/],
    ['an empty host among several', 'postgres://a,,b/v', /empty host/],
    ['hosts without end', `postgres://${'a,'.repeat(40)}a/v`, /more than 16 hosts/],
    ['a wish for a standby', 'postgres://a,b/v?target_session_attrs=prefer-standby', /target_session_attrs/],
  ])('OPS-20: %s is refused in words that name the variable and show nothing of the URL', (_, url, words) => {
    const parse = (): unknown => parseConfig({ DATABASE_URL: url }, {})
    expect(parse).toThrow(ConfigError)
    expect(parse).toThrow(words)
    expect(parse).toThrow(/^DATABASE_URL/)
    expect(parse).not.toThrow(/ss@host|u:p/)
  })

  test('OPS-20: REDIS_URL with raw special characters is refused in the same words', () => {
    expect(() => parseConfig({ REDIS_URL: 'redis://:p/ss@host:6379' }, {})).toThrow(/^REDIS_URL: .*percent-encode/)
    expect(() => parseConfig({ REDIS_URL: 'redis://:p%2Fss@host:6379' }, {})).not.toThrow()
  })

  test('OPS-20: a report shows no password of several hosts', () => {
    expect(maskValue('DATABASE_URL', 'postgres://u:secret@a,b/v')).not.toContain('secret')
  })
})
