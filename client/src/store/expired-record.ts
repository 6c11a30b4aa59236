// When the lifetime of an event in the local log ends, and what is left of it then: its place and its leaf, by which the
// chain of its device still closes (RET-9).

import { type Crypto, leafOf, type ParsedEvent, parseEvent } from '@valise/protocol'
import { AlarmError } from '../alarm.ts'
import type { EventRecord } from './records.ts'

/** Unix milliseconds by the server's clock; `undefined` for an event that stays. A kept event has no lifetime (PROTOCOL E). */
export const lifetimeEndMs = (storedAtMs: number, { ttlS }: Pick<ParsedEvent, 'ttlS'>): number | undefined =>
  ttlS === 0 ? undefined : Math.min(storedAtMs + ttlS * 1000, Number.MAX_SAFE_INTEGER)

export function isOver(storedAtMs: number, event: Pick<ParsedEvent, 'ttlS'>, nowMs: number): boolean {
  const endMs = lifetimeEndMs(storedAtMs, event)
  return endMs !== undefined && endMs <= nowMs
}

/** The one conversion of a stored event into an expired one. */
export function expireRecord(crypto: Crypto, key: string, record: EventRecord): EventRecord {
  const { body, ...place } = record
  if (body.type === 'expired') return record
  const event = parseEvent(body.wire)
  if (event === undefined) throw new AlarmError('store_damaged', { record: key })
  const { deviceId, deviceSeq } = event
  const leaf = leafOf(crypto, event)
  return { ...place, body: { type: 'expired', deviceId, deviceSeq, leaf, excuse: 'lifetime' } }
}
