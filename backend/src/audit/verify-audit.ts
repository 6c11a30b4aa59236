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
    for (const record of page) {
      if (report !== undefined && !Buffer.from(report.userId).equals(record.userId)) {
        yield report
        report = undefined
      }
      report = report === undefined ? beginReport(record) : continueReport(report, record)
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

const continueReport = (report: ChainReport, record: AuditRecord): ChainReport => ({
  ...report,
  records: report.records + 1,
  head: record,
  fault: report.fault ?? findChainFault([record], report.head),
})
