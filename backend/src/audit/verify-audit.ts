// Reads the whole audit log, chain by chain, and says what does not hold. Records that retention took away are missing from
// the front only; a chain that was cut at its end still holds, so whoever wants to know keeps the heads this gives.

import { type AuditHead, type AuditRecord, type ChainFault, findChainFault, SERVER_CHAIN } from './audit-record.ts'

export interface ChainReport {
  readonly userId: Uint8Array
  readonly isServer: boolean
  readonly records: number
  /** 1 unless older records were taken away. */
  readonly firstSeq: number
  readonly head: AuditHead
  /** The first record that does not hold. */
  readonly fault: ChainFault | undefined
}

export type ReadAuditPage = (
  after: { readonly userId: Uint8Array; readonly seq: number },
  limit: number,
) => Promise<readonly AuditRecord[]>

const PAGE_RECORDS = 1000

/** One report a chain, the server's own first; memory is one page and one report at a time. */
export async function* verifyAudit(readPage: ReadAuditPage, pageRecords = PAGE_RECORDS): AsyncGenerator<ChainReport> {
  let report: ChainReport | undefined
  let after: { userId: Uint8Array; seq: number } = { userId: SERVER_CHAIN, seq: 0 }
  for (;;) {
    const page = await readPage(after, pageRecords)
    for (const [i, record] of page.entries()) {
      if (report !== undefined && !Buffer.from(report.userId).equals(record.userId)) {
        yield report
        report = undefined
      }
      const wasPruned = report !== undefined && i === 0 && (await isPrunedUpTo(readPage, report, record))
      if (report === undefined) report = beginReport(record)
      else report = wasPruned ? continueAfterPrune(report, record) : continueReport(report, record)
      after = record
    }
    if (page.length < pageRecords) break
  }
  if (report !== undefined) yield report
}

const beginReport = (record: AuditRecord): ChainReport => ({
  userId: record.userId,
  isServer: Buffer.from(record.userId).equals(SERVER_CHAIN),
  records: 1,
  firstSeq: record.seq,
  head: record,
  fault: findChainFault([record], undefined),
})

/**
 * Whether what is missing between two pages went by age since the first was read: then the record before it went, too,
 * for retention takes a chain from its front.
 */
async function isPrunedUpTo(
  readPage: ReadAuditPage,
  { userId, head }: ChainReport,
  next: AuditRecord,
): Promise<boolean> {
  if (next.seq === head.seq + 1) return false
  const [before] = await readPage({ userId, seq: head.seq - 1 }, 1)
  return before?.seq !== head.seq || !Buffer.from(before.userId).equals(userId)
}

const continueAfterPrune = (report: ChainReport, record: AuditRecord): ChainReport => ({
  ...report,
  records: report.records + 1,
  firstSeq: record.seq,
  head: record,
  fault: report.fault ?? findChainFault([record], undefined),
})

const continueReport = (report: ChainReport, record: AuditRecord): ChainReport => ({
  ...report,
  records: report.records + 1,
  head: record,
  fault: report.fault ?? findChainFault([record], report.head),
})
