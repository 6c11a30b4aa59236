// What an operator reads of the audit log: its newest records, and whether all of it holds.

import { toHex } from '@valise/protocol'
import { z } from 'zod'
import { AUDIT_KINDS, type AuditRecord, SERVER_CHAIN } from '../audit/audit-record.ts'
import { verifyAudit } from '../audit/verify-audit.ts'
import { readAuditPage, readNewestAudit } from '../db/queries/audit.ts'
import { hashForLog } from '../telemetry/log.ts'
import type { AdminCommand } from './command.ts'

export const MAX_AUDIT_RECORDS = 10_000
/** Faults that are named; the others are counted. */
const MAX_NAMED_FAULTS = 100

const show = z.strictObject({ limit: z.int().min(1).max(MAX_AUDIT_RECORDS) })

const shown = z.strictObject({
  /** The newest last. */
  records: z.array(
    z.strictObject({
      atMs: z.number(),
      /** Of the user whose chain it is, as the log shows him; null in the server's own chain. */
      user: z.string().nullable(),
      seq: z.number(),
      kind: z.enum(AUDIT_KINDS),
      detail: z.record(z.string(), z.union([z.string(), z.number()])),
      hash: z.string(),
    }),
  ),
})

export const auditCommand: AdminCommand<z.infer<typeof show>, z.infer<typeof shown>> = {
  name: 'audit',
  input: show,
  output: shown,
  run: async (db, { limit }) => {
    const records = await readNewestAudit(db, limit)
    return {
      records: records.map((record) => ({
        atMs: record.atMs,
        user: nameOf(record.userId),
        seq: record.seq,
        kind: record.kind,
        detail: record.detail,
        hash: toHex(record.hash),
      })),
    }
  },
}

const verified = z.strictObject({
  chains: z.number(),
  records: z.number(),
  /** The newest record of the server's chain: kept elsewhere, it shows later that nothing was cut off. */
  head: z.strictObject({ seq: z.number(), hash: z.string() }).nullable(),
  faultyChains: z.number(),
  faults: z.array(z.strictObject({ user: z.string().nullable(), seq: z.number(), type: z.string() })),
})

export const auditVerifyCommand: AdminCommand<Record<string, never>, z.infer<typeof verified>> = {
  name: 'audit-verify',
  input: z.strictObject({}),
  output: verified,
  run: async (db) => {
    const sum: z.infer<typeof verified> = { chains: 0, records: 0, head: null, faultyChains: 0, faults: [] }
    for await (const report of verifyAudit((after, limit) => readAuditPage(db, after, limit))) {
      sum.chains++
      sum.records += report.records
      if (report.isServer) sum.head = { seq: report.head.seq, hash: toHex(report.head.hash) }
      if (report.fault === undefined) continue
      sum.faultyChains++
      const { seq, type } = report.fault
      if (sum.faults.length < MAX_NAMED_FAULTS) sum.faults.push({ user: nameOf(report.userId), seq, type })
    }
    return sum
  },
}

const nameOf = (userId: AuditRecord['userId']): string | null =>
  Buffer.from(userId).equals(SERVER_CHAIN) ? null : hashForLog(userId)
