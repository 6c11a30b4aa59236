// What the audit log says, and how its records hold on to each other: each carries the hash of the one before it in its
// chain, so that none can be changed, taken out or put in unnoticed. Pure. What it says is for the operator, names no
// stream, and holds no secret: devices stand there under the public hash that the log uses too.

import { createHash } from 'node:crypto'

/** The chain of the server's own records; every user has one of his own. */
export const SERVER_CHAIN: Uint8Array = new Uint8Array(32)

export const AUDIT_KINDS = [
  // Chains of users, in the transaction that does it.
  'user.register',
  'device.approve',
  'device.revoke',
  'device.role',
  'epoch.rotate',
  'recovery.replace',
  'device.suspend',
  'recovery.ask',
  'recovery.drop',
  'account.close.ask',
  'account.close.drop',
  // The server's chain.
  'account.delete',
  'server.start',
  'server.key',
  'handshakes.refuse',
  'rotations.force',
  'limits.reach',
  'displacement.limit',
  'audit.prune',
] as const
export type AuditKind = (typeof AUDIT_KINDS)[number]

/** Short names, whole numbers and hashes only, so that it reads the same after a way through the database. */
export type AuditDetail = Readonly<Record<string, string | number>>

export interface AuditNote {
  readonly kind: AuditKind
  readonly detail: AuditDetail
}

export interface AuditRecord extends AuditNote {
  readonly userId: Uint8Array
  /** 1, 2, 3 … a chain; what retention has taken away leaves the numbers of the rest as they were. */
  readonly seq: number
  /** Unix milliseconds by the database's clock. */
  readonly atMs: number
  readonly prevHash: Uint8Array
  readonly hash: Uint8Array
}

/** Where a chain stands. */
export interface AuditHead {
  readonly seq: number
  readonly atMs: number
  readonly hash: Uint8Array
}

export const EMPTY_CHAIN: AuditHead = { seq: 0, atMs: 0, hash: new Uint8Array(32) }

/** The notes as the records that continue a chain; time never goes back in one, so that what is old stands in front. */
export function chainRecords(
  userId: Uint8Array,
  head: AuditHead,
  nowMs: number,
  notes: readonly AuditNote[],
): AuditRecord[] {
  const records: AuditRecord[] = []
  const atMs = Math.max(nowMs, head.atMs)
  for (const { kind, detail } of notes) {
    const { seq, hash } = records.at(-1) ?? head
    const unhashed = { userId, seq: seq + 1, atMs, kind, detail, prevHash: hash }
    records.push({ ...unhashed, hash: hashOf(unhashed) })
  }
  return records
}

/** SHA-256 over the name of its purpose and every field, each with its length or of a fixed one. */
export function hashOf(record: Omit<AuditRecord, 'hash'>): Uint8Array {
  const place = Buffer.alloc(16)
  place.writeBigUInt64BE(BigInt(record.seq), 0)
  place.writeBigUInt64BE(BigInt(record.atMs), 8)
  const hash = createHash('sha256').update('valise audit\0').update(record.userId).update(place).update(record.prevHash)
  for (const text of [record.kind, canonicalDetail(record.detail)]) {
    const bytes = Buffer.from(text, 'utf8')
    const length = Buffer.alloc(4)
    length.writeUInt32BE(bytes.length)
    hash.update(length).update(bytes)
  }
  return hash.digest()
}

/** JSON with its keys in order: the database keeps values, not the order they were written in. */
export const canonicalDetail = (detail: AuditDetail): string =>
  JSON.stringify(Object.fromEntries(Object.entries(detail).sort(([a], [b]) => (a < b ? -1 : 1))))

export type ChainFault =
  | { readonly type: 'hash'; readonly seq: number }
  | { readonly type: 'link'; readonly seq: number }
  | { readonly type: 'gap'; readonly seq: number; readonly expected: number }

/** The first record of consecutive ones that does not hold, after `before`; undefined: the chain begins with them. */
export function findChainFault(records: readonly AuditRecord[], before: AuditHead | undefined): ChainFault | undefined {
  let previous = before
  for (const record of records) {
    const { seq } = record
    if (previous !== undefined && seq !== previous.seq + 1) return { type: 'gap', seq, expected: previous.seq + 1 }
    if (previous !== undefined && !Buffer.from(previous.hash).equals(record.prevHash)) return { type: 'link', seq }
    if (!Buffer.from(hashOf(record)).equals(record.hash)) return { type: 'hash', seq }
    previous = record
  }
  return undefined
}
