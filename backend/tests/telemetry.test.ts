// DESIGN 12: the given names are there, labels stay small, and the log shows neither secrets nor payloads.

import { describe, expect, it, vi } from 'vitest'
import { watchEventLoopLag } from '../src/telemetry/event-loop-lag.ts'
import { createLog, hashForLog } from '../src/telemetry/log.ts'
import { createMetrics } from '../src/telemetry/metrics.ts'

describe('metrics', () => {
  it('P7: the names that operators rely on are scraped from the first moment', async () => {
    const text = await createMetrics().render()
    for (const [name, kind] of [
      ['redis_subscribers_active', 'gauge'],
      ['redis_subscriber_errors_total', 'counter'],
      ['redis_subscriber_cleanup_errors_total', 'counter'],
      ['database_query_duration_ms', 'histogram'],
      ['database_slow_queries_total', 'counter'],
      ['database_queries_total', 'counter'],
    ]) {
      expect(text).toContain(`# TYPE ${name} ${kind}`)
    }
  })

  it('P7: every other name is prefixed', async () => {
    const names = [...(await createMetrics().render()).matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name ?? '')
    expect(names.length).toBeGreaterThan(20)
    expect(names.filter((name) => !/^(valise|redis|database|process|nodejs)_/.test(name))).toEqual([])
  })

  it('P7: a query is counted and timed by operation and status', async () => {
    const metrics = createMetrics()
    metrics.database.observeQuery({ operation: 'select', status: 'ok', durationMs: 3 })
    metrics.database.observeQuery({ operation: 'select', status: 'ok', durationMs: 9 })
    metrics.database.observeQuery({ operation: 'insert', status: 'error', durationMs: 9 })
    expect(await metrics.read('database_queries_total')).toBe(3)
    expect(await metrics.read('database_queries_total', { operation: 'select', status: 'ok' })).toBe(2)
    expect(await metrics.read('database_query_duration_ms', { status: 'error' })).toBe(1)
    expect(await metrics.render()).toContain(
      'database_query_duration_ms_bucket{le="4",operation="select",status="ok"} 1',
    )
  })

  it('P7: two sets of metrics in one process never mix', async () => {
    const [first, second] = [createMetrics(), createMetrics()]
    first.log.countStored(7)
    first.redis.setSubscribersActive(2)
    expect(await first.read('valise_events_stored_total')).toBe(7)
    expect(await first.read('redis_subscribers_active')).toBe(2)
    expect(await second.read('valise_events_stored_total')).toBe(0)
    await expect(second.read('no_such_metric')).rejects.toThrow(RangeError)
  })
})

describe('event-loop lag', () => {
  it('P7: a stall of the event loop is seen, and nothing is observed after close', async () => {
    const observed: number[] = []
    const watch = watchEventLoopLag({ observeEventLoopLag: (lagMs) => observed.push(lagMs) }, 20)
    await vi.waitFor(() => expect(observed.length).toBeGreaterThan(0))
    const until = performance.now() + 100
    while (performance.now() < until);
    await vi.waitFor(() => expect(Math.max(...observed)).toBeGreaterThan(50))
    watch.close()
    const before = observed.length
    const later = { ticks: 0 }
    const other = setInterval(() => later.ticks++, 20)
    await vi.waitFor(() => expect(later.ticks).toBeGreaterThan(1))
    clearInterval(other)
    expect(observed).toHaveLength(before)
  })
})

describe('log', () => {
  const collect = () => {
    const lines: string[] = []
    return { lines, log: createLog({ level: 'info', stream: { write: (line) => lines.push(line) } }) }
  }

  it('P7: secrets are redacted at the top, one and two levels down', () => {
    const { lines, log } = collect()
    log.info({ event: 'a.b.c', password: 'plum', deep: { token: 'plum', deeper: { masterSecret: 'plum' } } }, 'said')
    expect(lines[0]).not.toContain('plum')
    expect(JSON.parse(lines[0] ?? '')).toMatchObject({
      level: 'info',
      event: 'a.b.c',
      msg: 'said',
      password: '[redacted]',
    })
  })

  it('P7: bytes are shown as their length', () => {
    const { lines, log } = collect()
    log.warn({ event: 'a.b.c', frame: new Uint8Array([7, 7, 7]) }, 'said')
    expect(JSON.parse(lines[0] ?? '')).toMatchObject({ frame: '[3 bytes]' })
  })

  it('P7: an error shows code, message and cause, never the values a database adds', () => {
    const { lines, log } = collect()
    const err = Object.assign(new Error('outer', { cause: new Error('inner') }), {
      code: '23505',
      detail: 'Key (x)=(plum)',
    })
    log.error({ event: 'a.b.c', err }, 'said')
    expect(lines[0]).not.toContain('plum')
    expect(JSON.parse(lines[0] ?? '')).toMatchObject({
      err: { code: '23505', message: 'outer', cause: { message: 'inner' } },
    })
    log.error({ event: 'a.b.c', err: 'a bare text' }, 'said')
    expect(JSON.parse(lines[1] ?? '')).toMatchObject({ err: { message: 'a bare text' } })
  })

  it('P7: lines below the level are not written', () => {
    const { lines, log } = collect()
    log.debug({ event: 'a.b.c' }, 'said')
    expect(lines).toEqual([])
  })

  it('P7: an id is logged as a short stable hash', () => {
    const id = new Uint8Array(16).fill(9)
    expect(hashForLog(id)).toMatch(/^[0-9a-f]{16}$/)
    expect(hashForLog(id)).toBe(hashForLog(id.slice()))
    expect(hashForLog(id)).not.toBe(hashForLog(new Uint8Array(16)))
  })
})
