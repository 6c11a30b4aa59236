// The table of metrics in docs/OPERATIONS.md against what a running server exposes, both ways; and what no label may
// hold: a busy run with texts and ids planted everywhere leaves none of them in the exposition.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { runPromtool } from '../../scripts/prometheus.mjs'
import type { MetricDefinition } from '../src/telemetry/metric-kinds.ts'
import { type BusyRun, liveThroughBusyRun } from './metrics/busy-run.ts'
import { type Family, parseExposition } from './metrics/exposition.ts'

interface Row {
  readonly name: string
  readonly type: string
  readonly labels: readonly string[]
  readonly meaning: string
}

const page = readFileSync(join(import.meta.dirname, '../../docs/OPERATIONS.md'), 'utf8')
const codesIn = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, code]) => code ?? '')

const rows: Row[] = page
  .split('\n')
  .filter((line) => /^\| `[a-z_]+` \| (counter|gauge|histogram) \|/.test(line))
  .map((line) => {
    const [, name = '', type = '', labels = '', meaning = ''] = line
      .split(' | ')
      .flatMap((cell, index) => (index === 0 ? ['', cell.slice(2)] : [cell]))
    return { name: codesIn(name)[0] ?? '', type: type.trim(), labels: codesIn(labels), meaning: meaning.trim() }
  })

let run: BusyRun
let families: Family[]
let definitions: readonly MetricDefinition[]

beforeAll(async () => {
  run = await liveThroughBusyRun()
  families = parseExposition(run.exposition)
  definitions = run.definitions
}, 120_000)
afterAll(() => run?.close())

const byName = <T extends { readonly name: string }>(items: readonly T[]): T[] =>
  [...items].sort((a, b) => (a.name < b.name ? -1 : 1))

describe('the table of metrics', () => {
  test('P7: it lists what a running server exposes, and nothing else, with type and meaning', () => {
    expect(byName(rows).map(({ name, type, meaning }) => ({ name, type, meaning }))).toEqual(
      byName(families).map(({ name, type, help }) => ({ name, type, meaning: help })),
    )
  })

  test('P7: it names the labels of each, and a server that is busy shows no others', () => {
    const labelsOf = new Map(rows.map(({ name, labels }) => [name, labels]))
    for (const { name, labels } of definitions) expect([name, labelsOf.get(name)]).toEqual([name, Object.keys(labels)])
    for (const { name, samples } of families) {
      for (const { labels } of samples) {
        expect(labelsOf.get(name)).toEqual(expect.arrayContaining(Object.keys(labels)))
      }
    }
  })

  test('P7: every label has its row', () => {
    const described = [...page.matchAll(/^\| `([a-z]+)` \| (?!counter|gauge|histogram)/gm)].map(([, label]) => label)
    expect([...new Set(rows.flatMap(({ labels }) => labels))].sort()).toEqual(described.sort())
  })
})

describe('what is exposed', () => {
  test('P7: a label has one of the values of its closed list', () => {
    const definitionOf = new Map(definitions.map((definition) => [definition.name, definition]))
    let checked = 0
    for (const { name, samples } of families) {
      const closed = definitionOf.get(name)?.labels ?? { kind: ['major', 'minor', 'incremental', 'weakcb'] }
      for (const { labels } of samples) {
        for (const [label, value] of Object.entries(labels)) {
          expect(closed[label], `${name}{${label}="${value}"}`).toContain(value)
          checked++
        }
      }
    }
    expect(checked).toBeGreaterThan(50)
  })

  test('P7: a busy run moves what it should, so that what is searched is not empty', async () => {
    const sumOf = (name: string): number =>
      families
        .find((family) => family.name === name)
        ?.samples.filter((sample) => sample.name === name || sample.name === `${name}_count`)
        .reduce((sum, { value }) => sum + value, 0) ?? 0
    for (const name of [
      'redis_subscribers_active',
      'database_queries_total',
      'valise_pool_size',
      'valise_pool_wait_seconds',
      'valise_database_size_bytes',
      'valise_bus_announcements_total',
      'valise_redis_publish_duration_seconds',
      'valise_connections',
      'valise_handshakes_total',
      'valise_events_stored_total',
      'valise_events_refused_total',
      'valise_batch_events',
      'valise_commit_duration_seconds',
      'valise_relay_duration_seconds',
      'valise_end_to_end_duration_seconds',
      'valise_replays_total',
      'valise_data_free_bytes',
      'process_resident_memory_bytes',
      'process_open_fds',
    ]) {
      expect([name, sumOf(name)]).toEqual([name, expect.toSatisfy((value: number) => value > 0)])
    }
  })

  test('P1: none of the ids and texts of a busy run stands in it, in any form', () => {
    expect(run.findPlanted(run.exposition)).toEqual([])
    const [name, planted] = [...run.planted][0]!
    expect(run.findPlanted(`valise_x{a="${Buffer.from(planted).toString('base64url')}"} 1`)).toEqual([
      `${name} in the exposition`,
    ])
  })

  test('P7: promtool finds fault with nothing but the one unit that is given', { timeout: 300_000 }, () => {
    const { exitCode, output } = runPromtool(['check', 'metrics'], { input: run.exposition })
    // The name is given, unit and all, and promtool would have it in seconds. It says no word about any other.
    expect(output.trim().split('\n')).toEqual([
      'database_query_duration_ms metric names should not contain abbreviated units',
    ])
    expect(exitCode).toBe(3)
  })
})
