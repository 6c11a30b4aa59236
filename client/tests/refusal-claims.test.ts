// Where a claim about a refused event begins to be possible: at the very byte, and at the very millisecond.

import {
  assembleEvent,
  createEventId,
  EVENT_TAG_BYTES,
  type EventHeader,
  encodeEventHeader,
  paddedLength,
  parseEvent,
  toDeviceId,
  toEventId,
  toStreamId,
  toUserId,
} from '@valise/protocol'
import { expect, test } from 'vitest'
import { hasOutlived, judgeClaim, type RefusalFacts } from '../src/publish/refusals.ts'

const CREATED_MS = 1_700_000_000_000
const MAX_PAYLOAD = 1000
const facts: RefusalFacts = {
  maxPayload: MAX_PAYLOAD,
  nowMs: CREATED_MS,
  restoredAtMs: CREATED_MS,
  isKnownStream: () => false,
}
const header: EventHeader = {
  userId: toUserId(new Uint8Array(32))!,
  deviceId: toDeviceId(new Uint8Array(16).fill(1))!,
  deviceSeq: 1,
  chainPrev: new Uint8Array(32),
  streamId: toStreamId(new Uint8Array(16))!,
  eventId: toEventId(createEventId(CREATED_MS, new Uint8Array(10)))!,
  epoch: 1,
  logSeq: 0,
  logHead: new Uint8Array(32),
  ttlS: 0,
  isTombstone: false,
  isKept: false,
  nonce: new Uint8Array(24),
  checkpoint: undefined,
}
const checkpoint = {
  isKept: true,
  checkpoint: [{ deviceId: header.deviceId, deviceSeq: 1, chain: new Uint8Array(32) }],
}
const eventOf = (changes: Partial<EventHeader> = {}, ciphertextBytes = paddedLength(MAX_PAYLOAD) + EVENT_TAG_BYTES) =>
  parseEvent(
    assembleEvent(encodeEventHeader({ ...header, ...changes }), new Uint8Array(ciphertextBytes), new Uint8Array(64)),
  )!

test('REF-1: an event of the largest size is not too large, and one byte more may be', () => {
  const largest = paddedLength(MAX_PAYLOAD) + EVENT_TAG_BYTES
  expect(judgeClaim('payload_too_large', eventOf({}, largest), facts)).toBe('false')
  expect(judgeClaim('payload_too_large', eventOf({}, largest + 1), facts)).toBe('possible')
})

test('REF-1: a lifetime ends at its last millisecond, and none never ends', () => {
  const event = eventOf({ ttlS: 1 })
  const at = (nowMs: number) => judgeClaim('event_expired', event, { ...facts, nowMs })
  expect([at(CREATED_MS + 999), at(CREATED_MS + 1000)]).toEqual(['ask_time', 'possible'])
  expect(judgeClaim('event_expired', eventOf(), { ...facts, nowMs: CREATED_MS * 2 })).toBe('false')
  expect(hasOutlived(eventOf(), CREATED_MS * 2)).toBe(false)
})

test('CHK-4: only a checkpoint from before the log was restored may be false', () => {
  const at = (changes: Partial<EventHeader>, restoredAtMs: number) =>
    judgeClaim('checkpoint_false', eventOf(changes), { ...facts, restoredAtMs })
  expect(at(checkpoint, CREATED_MS)).toBe('denied')
  expect(at(checkpoint, CREATED_MS + 1)).toBe('possible')
  expect(at({}, CREATED_MS + 1)).toBe('denied')
})
