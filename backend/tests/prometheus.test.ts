// A real Prometheus with the rules of ops/ scrapes running servers: it sees what they count, answers every question of the
// dashboard with data, and notices a node that has stopped. The rules themselves are tested by promtool.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { z } from 'zod'
import { askPrometheus, dashboard } from '../../ops/check-dashboard.mjs'
import { runPromtool, startPrometheus } from '../../scripts/prometheus.mjs'
import { type BusyRun, liveThroughBusyRun } from './metrics/busy-run.ts'
import { parseExposition } from './metrics/exposition.ts'
import { waitFor } from './support/open-database.ts'

const root = join(import.meta.dirname, '../..')
const rulesFolder = join(root, 'ops/prometheus')
const read = (file: string): string => readFileSync(join(root, file), 'utf8')

const ruleSchema = z.strictObject({
  record: z.string().optional(),
  alert: z.string().optional(),
  expr: z.string(),
  for: z.string().optional(),
  labels: z.strictObject({ severity: z.enum(['page', 'ticket']) }).optional(),
  annotations: z.strictObject({ summary: z.string(), runbook: z.string() }).optional(),
})
const rulesSchema = z.object({ groups: z.array(z.object({ rules: z.array(ruleSchema) })) })
const readRules = (file: string) => rulesSchema.parse(parse(read(file))).groups.flatMap(({ rules }) => rules)
const alerts = readRules('ops/prometheus/alerts.yml')
const recordings = readRules('ops/prometheus/recording.yml')

const metricsIn = (expression: string): string[] =>
  [...expression.matchAll(/\b(?:[a-z_]+:)?((?:valise|redis|database|process|nodejs)_[a-z_]+)(?=[{[\s,)]|$)/g)]
    .filter(([whole]) => !whole.includes(':'))
    .map(([, name]) => (name ?? '').replace(/_(bucket|count|sum)$/, ''))

let run: BusyRun
let prometheus: { url: string; close(): Promise<void> }

beforeAll(async () => {
  run = await liveThroughBusyRun()
  const targets = run.adminUrls.map((url) => new URL(url).host)
  prometheus = await startPrometheus(
    JSON.stringify({
      global: { scrape_interval: '1s', evaluation_interval: '1s' },
      rule_files: ['recording.yml', 'alerts.yml'].map((file) => join(rulesFolder, file)),
      scrape_configs: [{ job_name: 'valise', static_configs: [{ targets }] }],
    }),
  )
}, 300_000)
afterAll(async () => {
  await prometheus?.close()
  await run?.close()
})

/** The values of an instant query, by nothing: the rules and panels name their series. */
async function query(expression: string): Promise<number[]> {
  const response = await fetch(`${prometheus.url}/api/v1/query?${new URLSearchParams({ query: expression })}`)
  const answer = z
    .object({ data: z.object({ result: z.array(z.object({ value: z.tuple([z.number(), z.string()]) })) }) })
    .parse(await response.json())
  return answer.data.result.map(({ value }) => Number(value[1]))
}

describe('a Prometheus that scrapes two nodes', () => {
  test('P7: sees what they have counted', async () => {
    await waitFor(
      'three scrapes of both nodes',
      () => query('count_over_time(valise_connections{job="valise"}[1m])'),
      (counts) => counts.length === 2 && counts.every((count) => count >= 3),
    )
    const family = parseExposition(run.exposition).find(({ name }) => name === 'valise_events_stored_total')
    expect(await query(`valise_events_stored_total{instance="${new URL(run.adminUrls[0]!).host}"}`)).toEqual([
      family?.samples[0]?.value,
    ])
    expect(await query('sum(up)')).toEqual([2])
  })

  test('P7: answers every question of the dashboard, with data', async () => {
    const answers = await waitFor(
      'data for every panel',
      () => askPrometheus(prometheus.url),
      (all) => all.every(({ outcome }) => outcome === 'data'),
    )
    expect(answers.length).toBeGreaterThan(40)
    // The check bites: a question that is none, and one about nothing.
    const bad = await askPrometheus(prometheus.url, { job: 'nobody' })
    expect(bad.filter(({ outcome }) => outcome === 'no data').length).toBeGreaterThan(20)
    const broken = await askPrometheus(prometheus.url, { interval: 'soon' })
    expect(broken.find(({ expression }) => expression.includes('[soon]'))?.outcome).toMatch(/parse error/)
  })

  test('P7: evaluates every rule without an error, and finds nothing to alert about', async () => {
    const rules = await waitFor(
      'every rule to be evaluated',
      async () => {
        const answer = await (await fetch(`${prometheus.url}/api/v1/rules`)).json()
        return z
          .object({
            data: z.object({
              groups: z.array(
                z.object({
                  rules: z.array(z.object({ name: z.string(), health: z.string(), state: z.string().optional() })),
                }),
              ),
            }),
          })
          .parse(answer)
          .data.groups.flatMap((group) => group.rules)
      },
      (all) => all.every(({ health }) => health !== 'unknown'),
    )
    expect(rules.map(({ name }) => name).sort()).toEqual(
      [...alerts.map(({ alert }) => alert), ...recordings.map(({ record }) => record)].sort(),
    )
    expect(rules.filter(({ health }) => health !== 'ok')).toEqual([])
    expect(rules.filter(({ state }) => state === 'firing')).toEqual([])
  })

  test('P7: notices a node that has stopped', async () => {
    await run.stopSecondNode()
    const pending = await waitFor(
      'the alert to be pending',
      () => query('ALERTS{alertname="ValiseDown"}'),
      (values) => values.length > 0,
    )
    expect(pending).toEqual([1])
    expect(await query('sum(up)')).toEqual([1])
  })
})

describe('the rules', () => {
  test('P7: promtool takes them, and each alert fires on its bad series and not on its good one', {
    timeout: 120_000,
  }, () => {
    for (const args of [
      ['check', 'rules', 'recording.yml', 'alerts.yml'],
      ['check', 'config', '--syntax-only', 'prometheus.yml'],
      ['test', 'rules', 'alerts.test.yml'],
    ]) {
      const { exitCode, output } = runPromtool(args, { cwd: rulesFolder })
      expect(output).toContain('SUCCESS')
      expect([args.join(' '), exitCode]).toEqual([args.join(' '), 0])
    }
  })

  test('P7: every alert has both series, a section that says what to do, and a duration', () => {
    const cases = z
      .object({
        tests: z.array(
          z.object({
            alert_rule_test: z.array(z.object({ alertname: z.string(), exp_alerts: z.array(z.unknown()) })),
          }),
        ),
      })
      .parse(parse(read('ops/prometheus/alerts.test.yml')))
      .tests.flatMap((one) => one.alert_rule_test)
    const headings = new Set(
      [...read('docs/OPERATIONS.md').matchAll(/^### (.+)$/gm)].map(([, text]) => text?.toLowerCase()),
    )
    for (const { alert = '', annotations, labels, for: duration } of alerts) {
      const counts = cases.filter(({ alertname }) => alertname === alert).map(({ exp_alerts }) => exp_alerts.length)
      expect([alert, ...counts]).toEqual([alert, 1, 0])
      expect(annotations?.runbook).toBe(`docs/OPERATIONS.md#${alert.toLowerCase()}`)
      expect(headings).toContain(alert.toLowerCase())
      expect([labels?.severity, duration]).not.toContain(undefined)
    }
  })

  test('P7: rules and panels ask for nothing that no server exposes', () => {
    const exposed = new Set(parseExposition(run.exposition).map(({ name }) => name))
    const expressions = [
      ...[...alerts, ...recordings].map(({ expr }) => expr),
      ...panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)),
    ]
    const asked = new Set(expressions.flatMap(metricsIn))
    expect(asked.size).toBeGreaterThan(25)
    expect([...asked].filter((name) => !exposed.has(name))).toEqual([])
    const recorded = new Set(recordings.map(({ record }) => record))
    const askedRecords = expressions.flatMap((text) =>
      [...text.matchAll(/\b[a-z_]+:[a-z_]+:[a-z0-9_]+|job:[a-z_]+:[a-z0-9_]+/g)].map(([name]) => name),
    )
    expect(askedRecords.filter((name) => !recorded.has(name))).toEqual([])
  })
})

const datasource = z.strictObject({ type: z.literal('prometheus'), uid: z.literal('valise-prometheus') })
const count = z.int().min(0)
const panelSchema = z.object({
  id: z.int().min(1),
  title: z.string(),
  type: z.enum(['stat', 'timeseries', 'text']),
  gridPos: z.strictObject({ x: count.max(23), y: count, w: z.int().min(1).max(24), h: z.int().min(1) }),
  fieldConfig: z.strictObject({ defaults: z.record(z.string(), z.unknown()), overrides: z.array(z.never()) }),
  options: z.record(z.string(), z.unknown()),
  targets: z.array(
    z.strictObject({
      refId: z.string().regex(/^[A-Z]$/),
      datasource,
      expr: z.string().min(1),
      legendFormat: z.string(),
      range: z.literal(true),
    }),
  ),
})
const dashboardSchema = z.object({
  uid: z.string().regex(/^[\w-]{1,40}$/),
  title: z.string().min(1),
  schemaVersion: z.int().min(36),
  time: z.strictObject({ from: z.string(), to: z.string() }),
  templating: z.object({ list: z.array(z.object({ name: z.string(), type: z.literal('query'), datasource })) }),
  panels: z.array(panelSchema),
})
const { panels, templating } = dashboardSchema.parse(dashboard())

describe('the dashboard', () => {
  test('P7: every panel has its place, its queries and a line that explains it', () => {
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length)
    expect(templating.list.map(({ name }) => name)).toEqual(['job'])
    const taken = new Set<string>()
    for (const { type, targets, gridPos, ...panel } of panels) {
      expect([panel.title, targets.length > 0]).toEqual([panel.title, type !== 'text'])
      expect(new Set(targets.map(({ refId }) => refId)).size).toBe(targets.length)
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
          expect([panel.title, x < 24, taken.has(`${x} ${y}`)]).toEqual([panel.title, true, false])
          taken.add(`${x} ${y}`)
        }
      }
    }
  })

  test('P7: it is read from left to right: up, how many, how fast, stuck, refused', () => {
    const columns = panels
      .filter(({ type }) => type === 'text')
      .sort((a, b) => a.gridPos.x - b.gridPos.x)
      .map(({ options }) => String(options['content']).split('\n')[0])
    expect(columns).toEqual([
      '### Is it up?',
      '### How many?',
      '### How fast?',
      '### What is stuck?',
      '### What is refused?',
    ])
  })

  test('P7: the compose file and what Grafana is provisioned with name the same folders, services and data source', () => {
    const service = z.looseObject({ volumes: z.array(z.string()).optional(), ports: z.array(z.string()).optional() })
    const { services } = z.object({ services: z.record(z.string(), service) }).parse(parse(read('ops/compose.yaml')))
    expect(Object.keys(services).sort()).toEqual(['grafana', 'postgres', 'prometheus', 'redis', 'valise'])
    for (const { ports = [] } of Object.values(services)) {
      for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:/)
    }
    const mounts = new Map(
      (services['grafana']?.volumes ?? []).map((volume) => volume.split(':').slice(0, 2) as [string, string]),
    )
    const provider = parse(read('ops/grafana/provisioning/dashboards/valise.yaml')).providers[0]
    expect(mounts.get('./grafana/dashboards')).toBe(provider.options.path)
    expect(mounts.get('./grafana/provisioning')).toBe('/etc/grafana/provisioning')
    const source = parse(read('ops/grafana/provisioning/datasources/prometheus.yaml')).datasources[0]
    expect({ type: source.type, uid: source.uid }).toEqual(datasource.parse({ type: source.type, uid: source.uid }))
    expect(new URL(source.url).hostname in services).toBe(true)
    const scraped = parse(read('ops/prometheus/prometheus.yml')).scrape_configs[0]
    expect(scraped.job_name).toBe('valise')
    expect(scraped.static_configs[0].targets).toEqual(['valise:8788'])
  })
})
