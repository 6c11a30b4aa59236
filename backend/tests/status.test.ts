// What the status page is told: the scraped numbers, second by second, bounded, and quantiles as Prometheus has them.

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createHistory, MAX_READINGS } from '../src/status/history.ts'
import { quantileOf, spanOf } from '../src/status/quantile.ts'
import { type Reading, takeReading } from '../src/status/reading.ts'
import { describeStatus, parseStatus, type ServerFacts } from '../src/status/status.ts'
import { createMetrics, type Metrics } from '../src/telemetry/metrics.ts'

const SERVER: ServerFacts = { version: '1', fingerprint: 'f', database: 'pglite', bus: 'local', started_at_ms: 0 }
const READY = { problems: [], notes: [] }

async function readingOf(metrics: Metrics, atMs: number): Promise<Reading> {
  return takeReading(await metrics.samples(), atMs, { rssBytes: 1000, cpuMs: atMs / 2 })
}

describe('quantiles', () => {
  const histogram = (counts: readonly number[]) => ({ bounds: [1, 2, 4, Number.POSITIVE_INFINITY], counts, sum: 0 })

  test('SEE-1: a quantile lies within its bucket, as far as its rank', () => {
    const span = spanOf(undefined, histogram([2, 4, 8, 8]))
    expect(quantileOf(span, 0.5)).toBe(2)
    expect(quantileOf(span, 0.25)).toBe(1)
    expect(quantileOf(span, 0.75)).toBe(3)
    expect(quantileOf(span, 1)).toBe(4)
  })

  test('SEE-1: only what came in between counts, and nothing is no number', () => {
    expect(quantileOf(spanOf(histogram([8, 8, 8, 8]), histogram([8, 8, 10, 10])), 0.5)).toBe(3)
    expect(quantileOf(spanOf(histogram([8, 8, 8, 8]), histogram([8, 8, 8, 8])), 0.5)).toBeUndefined()
    expect(quantileOf(spanOf(undefined, histogram([0, 0, 0, 5])), 0.99)).toBe(4)
  })

  test('SEE-1: whatever was observed, the quantile is in the bucket of the observation of that rank', () => {
    const bounds = [1, 2, 4, 8, 16, 1000]
    fc.assert(
      fc.property(
        fc.array(fc.double({ min: 0.001, max: 999, noNaN: true }), { minLength: 1, maxLength: 60 }),
        fc.double({ min: 0.01, max: 1, noNaN: true }),
        (observed, share) => {
          const counts = bounds.map((bound) => observed.filter((value) => value <= bound).length)
          const quantile = quantileOf(spanOf(undefined, { bounds, counts, sum: 0 }), share) ?? -1
          const sorted = [...observed].sort((one, other) => one - other)
          const value = sorted[Math.max(0, Math.ceil(share * sorted.length - 1e-9) - 1)] ?? 0
          const upper = bounds.find((bound) => value <= bound) ?? 0
          const lower = bounds[bounds.indexOf(upper) - 1] ?? 0
          expect(quantile).toBeGreaterThanOrEqual(lower)
          expect(quantile).toBeLessThanOrEqual(upper)
        },
      ),
    )
  })
})

describe('status', () => {
  test('SEE-1: rates and latencies of each second are those of the registry', async () => {
    const metrics = createMetrics()
    const history = createHistory()
    history.add(await readingOf(metrics, 1000))
    metrics.gateway.setConnections(3)
    metrics.log.countStored(40)
    metrics.log.observeCommit(3)
    metrics.gateway.countHandshake('ok')
    metrics.gateway.countHandshake('handshake_failed')
    metrics.gateway.countClose(4401)
    metrics.database.observeQuery({ operation: 'select', status: 'error', durationMs: 7 })
    history.add(await readingOf(metrics, 3000))
    const status = describeStatus(SERVER, history, READY)
    expect(parseStatus(JSON.parse(JSON.stringify(status)))).toEqual(status)
    expect(status.seconds).toEqual([3000])
    expect(status.series.events_per_s).toEqual([20])
    expect(status.series.handshakes_per_s).toEqual([1])
    expect(status.series.connections).toEqual([3])
    expect(status.series.cpu_share).toEqual([0.5])
    expect(status.series.commit_p50_ms).toEqual([3])
    expect(status.series.relay_p99_ms).toEqual([null])
    expect(status.total.events_stored).toBe(40)
    // The close and the query; the handshake ended with that close.
    expect(status.series.errors).toEqual([2])
    expect(status.errors.map(({ kind, code, total, recent, last_ms }) => [kind, code, total, recent, last_ms])).toEqual(
      [
        ['handshake', 'handshake_failed', 1, 1, 3000],
        ['close', '4401', 1, 1, 3000],
        ['query', 'error', 1, 1, 3000],
      ],
    )
    expect(status.errors[1]?.text).toBe('Handshake failed')
    expect(status.readiness.is_ready).toBe(true)
  })

  test('SEE-1: a server that just began has figures and no past', async () => {
    const history = createHistory()
    history.add(await readingOf(createMetrics(), 5000))
    const status = describeStatus(SERVER, history, { problems: ['database: out of reach'], notes: [] })
    expect(status.seconds).toEqual([])
    expect(status.now.connections).toBe(0)
    expect(status.now.commit_p99_ms).toBeNull()
    expect(status.readiness).toEqual({ is_ready: false, problems: ['database: out of reach'], notes: [] })
  })

  test('SEE-1: who looks every second is told the same as who looks once', async () => {
    const metrics = createMetrics()
    const [watched, kept] = [createHistory(5), createHistory(5)]
    for (let second = 0; second < 12; second++) {
      metrics.log.countStored(second * second)
      const reading = await readingOf(metrics, second * 1000)
      watched.add(reading)
      kept.add(structuredClone(reading))
      const status = describeStatus(SERVER, watched, READY)
      if (second === 11) expect(status).toEqual(describeStatus(SERVER, kept, READY))
    }
  })

  test('P5: five minutes are kept, however long a server runs', async () => {
    const metrics = createMetrics()
    const history = createHistory()
    const reading = await readingOf(metrics, 0)
    for (let second = 0; second < 2000; second++) history.add({ ...reading, atMs: second * 1000 })
    expect(history.readings).toHaveLength(MAX_READINGS)
    expect(describeStatus(SERVER, history, READY).seconds).toHaveLength(300)
    expect(history.readings[0]?.atMs).toBe((2000 - MAX_READINGS) * 1000)
  })

  test('P5: codes that should not be there do not swell it', async () => {
    const samples = Array.from({ length: 500 }, (_, n) => ({
      name: 'valise_handshakes_total',
      labels: { result: `code_${n}` },
      value: 1,
    }))
    expect(takeReading(samples, 0, { rssBytes: 0, cpuMs: 0 }).codes).toHaveLength(200)
  })

  test.each([{}, { server: SERVER }, [], null, 'text'])(
    'SEE-1: what no server says is not taken for a status: %j',
    (json) => {
      expect(parseStatus(json)).toBeUndefined()
    },
  )
})
