// What the server notes of itself in its own chain: its configuration at each start, at once; and what happens often
// (refused handshakes, forced rotations, limits reached) in sums, a record a kind and interval, so that a flood of them is a
// few rows. Metrics count the same things; here they are kept, and cannot be changed.

import type { Database } from '../db/postgres.ts'
import { appendAudit, pruneAudit } from '../db/queries/audit.ts'
import type { Log } from '../telemetry/log.ts'
import type { GatewayMetrics } from '../telemetry/metrics.ts'
import { type AuditDetail, type AuditKind, type AuditNote, SERVER_CHAIN } from './audit-record.ts'

export interface ServerAuditParts {
  readonly db: Database
  readonly log: Log
  readonly retentionDays: number
  readonly sumEveryMs?: number
  /** Records that one transaction takes away. */
  readonly pruneAtOnce?: number
}

export interface ServerAudit {
  /** Written at once; rejects when the database does not take it. */
  note(kind: AuditKind, detail: AuditDetail): Promise<void>
  /** The same metrics, with what matters for security summed up on the way. */
  watch(metrics: GatewayMetrics): GatewayMetrics
  /** Writes the sums so far. */
  flush(): Promise<void>
  /** Takes away what is older than the retention, in small transactions. */
  prune(): Promise<void>
  close(): Promise<void>
}

const SUM_EVERY_MS = 60_000
const PRUNE_EVERY_MS = 3_600_000
const PRUNE_AT_ONCE = 500

export function createServerAudit(parts: ServerAuditParts): ServerAudit {
  const { db, log, retentionDays, sumEveryMs = SUM_EVERY_MS, pruneAtOnce = PRUNE_AT_ONCE } = parts
  /** By kind, then by a code of the registry or another closed name. */
  let sums = new Map<AuditKind, Map<string, number>>()
  /** One after another. */
  let working: Promise<void> = Promise.resolve()

  const add = (kind: AuditKind, name: string, count = 1): void => {
    const sumByName = sums.get(kind) ?? new Map<string, number>()
    sumByName.set(name, (sumByName.get(name) ?? 0) + count)
    sums.set(kind, sumByName)
  }

  const write = (notes: readonly AuditNote[]): Promise<void> =>
    db.transaction({ name: 'append_audit' }, (tx) => appendAudit(tx, SERVER_CHAIN, notes))

  const writeSums = async (): Promise<void> => {
    const taken = sums
    if (taken.size === 0) return
    sums = new Map()
    try {
      await write([...taken].map(([kind, sumByName]) => ({ kind, detail: Object.fromEntries(sumByName) })))
    } catch (err) {
      // Kept for the next time: the names are few, so this does not grow.
      for (const [kind, sumByName] of taken) for (const [name, count] of sumByName) add(kind, name, count)
      log.warn({ event: 'audit.sums.fail', err }, 'The audit log could not be written; its sums are kept')
    }
  }

  const flush = (): Promise<void> => {
    working = working.then(writeSums)
    return working
  }

  const pruneAll = async (): Promise<void> => {
    try {
      for (;;) {
        const count = await db.transaction({ name: 'prune_audit' }, (tx) => pruneAudit(tx, retentionDays, pruneAtOnce))
        if (count < pruneAtOnce) return
      }
    } catch (err) {
      log.warn({ event: 'audit.prune.fail', err }, 'Old records of the audit log could not be taken away')
    }
  }
  const prune = (): Promise<void> => {
    working = working.then(pruneAll)
    return working
  }
  const timers = [
    setInterval(() => void flush(), sumEveryMs).unref(),
    setInterval(() => void prune(), PRUNE_EVERY_MS).unref(),
  ]

  return {
    note: (kind, detail) => write([{ kind, detail }]),
    watch: (metrics) => ({
      ...metrics,
      countHandshake: (result) => {
        if (result !== 'ok') add('handshakes.refuse', result)
        metrics.countHandshake(result)
      },
      countSessionRotation: (reason) => {
        if (reason !== 'rekey') add('rotations.force', reason)
        metrics.countSessionRotation(reason)
      },
      countRateLimited: (scope, count) => {
        add('limits.reach', scope, count)
        metrics.countRateLimited(scope, count)
      },
    }),
    flush,
    prune,
    close: async () => {
      for (const timer of timers) clearInterval(timer)
      await flush()
    },
  }
}
