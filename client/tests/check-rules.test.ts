// The edges of the receiver's rules: what is one entry, one epoch or one number off.

import {
  activeDevices,
  buildRevoke,
  buildRotate,
  chainAfter as continueChain,
  type DeviceLogState,
  leafOf,
  parseEvent,
  type StoredEvent,
  toHex,
} from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { beforeEach, expect, test } from 'vitest'
import { type CheckOutcome, checkEvents, type KnownLog } from '../src/receive/check-events.ts'
import { sealNextEpoch } from '../src/sealing/epoch-boxes.ts'
import { createPublishedLog, knowing, type PublishedLog } from './support/published-log.ts'
import { authorOf, mustApply } from './support/sealed-account.ts'

let log: PublishedLog
beforeEach(async () => {
  log = await createPublishedLog('writer')
})

const check = (known: KnownLog, events: readonly StoredEvent[] = log.items, through = events.at(-1)?.[0] ?? 0) =>
  checkEvents({ crypto, known, ownDeviceId: undefined }, { events, through })
const codeOf = (outcome: CheckOutcome): string =>
  outcome.type === 'alarm' || outcome.type === 'gap' ? outcome.alarm.code : outcome.type
const at = ([, , storedAtMs, wire]: StoredEvent, userSeq: number, streamSeq: number): StoredEvent => [
  userSeq,
  streamSeq,
  storedAtMs,
  wire,
]
const chainAfter = ([, , , wire]: StoredEvent): Uint8Array => {
  const event = parseEvent(wire)!
  return continueChain(crypto, event.chainPrev, leafOf(crypto, event))
}

/** The log after the manager revoked the writer, with the cut at an event of its. */
async function revokeWriter(lastSeq: number, last: StoredEvent): Promise<DeviceLogState> {
  const writer = log.deviceId('writer')
  const rest = activeDevices(log.state).filter(({ deviceId }) => toHex(deviceId) !== toHex(writer))
  const records = rest.map(({ record }) => record)
  const epoch = await sealNextEpoch(crypto, log.state, records, log.account.epoch.secret)
  const devices = [{ deviceId: writer, lastSeq, chain: chainAfter(last) }]
  const parts = { devices, reason: 0, epoch: epoch.start }
  return mustApply(log.state, await buildRevoke(log.state, authorOf(log.account.manager), parts))
}

test('DEV-6: an event up to the cut cannot name the entry that revoked its device', async () => {
  const item = await log.publish('writer', 'a', { logSeq: log.state.seq + 1, epoch: 2 })
  expect(codeOf(check(knowing(await revokeWriter(1, item))))).toBe('log_seq_invalid')
})

test('DEV-2: an event cannot be under an epoch that began after the entry it names', async () => {
  const members = activeDevices(log.state).map(({ record }) => record)
  const epoch = await sealNextEpoch(crypto, log.state, members, log.account.epoch.secret)
  const rotated = mustApply(log.state, await buildRotate(log.state, authorOf(log.account.manager), epoch.start))
  await log.publish('manager', 'a', { epoch: 2, logSeq: log.state.seq })
  expect(codeOf(check(knowing(rotated)))).toBe('epoch_invalid')
})

test('DEV-1: the very next entry of the device log is read before the event that names it is judged', async () => {
  const logSeq = log.state.seq + 1
  await log.publish('writer', 'a', { logSeq })
  expect(check(knowing(log.state))).toEqual({ type: 'log_behind', logSeq })
})

test('ORD-2: what a stream skips must be missing here: events of other streams hide nothing', async () => {
  const first = await log.publish('manager', 'a')
  const other = await log.publish('manager', 'b')
  const third = await log.publish('manager', 'a')
  expect(codeOf(check(knowing(log.state), [first, at(other, 2, 2)]))).toBe('stream_order_broken')
  expect(codeOf(check(knowing(log.state), [first, other, at(third, 3, 3)]))).toBe('stream_order_broken')
  expect(codeOf(check(knowing(log.state), [first, at(other, 3, 2)]))).toBe('ok')
  expect(codeOf(check(knowing(log.state), [first, other, at(third, 4, 3)]))).toBe('ok')
})

test('ORD-5: own events fill their places between those of a message and up to its end', async () => {
  const first = await log.publish('writer', 'a')
  const third = await log.publish('writer', 'a')
  const { streamId } = parseEvent(first[3])!
  const ownAhead = [2, 4].map((seq) => ({ userSeq: seq, streamSeq: seq, streamId }))
  const known = knowing(log.state, { ownAhead })
  const streamHead = { head: { userSeq: 4, streamSeq: 4 } }
  const outcome = check(known, [first, at(third, 3, 3)], 4)
  expect(outcome).toMatchObject({ type: 'ok', batch: { progress: { cursor: 4, lastHole: 0 } } })
  expect(outcome.type === 'ok' && outcome.batch.streamHeads.get(toHex(streamId))).toMatchObject(streamHead)
})
