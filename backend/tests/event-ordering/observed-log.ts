// The log as one device knows it: what it was given, and its own events by their receipts. And what makes a log sound.

import { toHex } from '@valise/protocol'
import { expect } from 'vitest'
import type { TestDevice } from '../support/account.ts'
import type { RawSession } from '../support/raw-device.ts'

export interface LogRecord {
  readonly userSeq: number
  readonly eventId: string
  readonly deviceId: string
  readonly deviceSeq: number
  readonly streamId: string
  readonly streamSeq: number
}

/** 1, 2, 3 … n. */
export const oneTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1)

const recordsOf = (device: TestDevice, session: RawSession): LogRecord[] => [
  ...session.events.map(({ userSeq, eventId, deviceId, deviceSeq, streamId, streamSeq }) => ({
    userSeq,
    eventId,
    deviceId,
    deviceSeq,
    streamId,
    streamSeq,
  })),
  ...session.receipts.map(([deviceSeq, streamSeq, userSeq]) => {
    const event = device.sealed[deviceSeq - 1]!
    const own = { eventId: toHex(event.eventId), deviceId: toHex(device.deviceId), streamId: toHex(event.streamId) }
    return { userSeq, ...own, deviceSeq, streamSeq }
  }),
]

/** By `user_seq`; fails when two sessions of the device were told different things about one place. */
export function logOf(device: TestDevice, ...sessions: readonly RawSession[]): LogRecord[] {
  const recordBySeq = new Map<number, LogRecord>()
  for (const record of sessions.flatMap((session) => recordsOf(device, session))) {
    expect(recordBySeq.get(record.userSeq) ?? record).toEqual(record)
    recordBySeq.set(record.userSeq, record)
  }
  return [...recordBySeq.values()].sort((a, b) => a.userSeq - b.userSeq)
}

const groupBy = <T>(items: readonly T[], keyOf: (item: T) => string): T[][] => {
  const groups = new Map<string, T[]>()
  for (const item of items) {
    const key = keyOf(item)
    const group = groups.get(key)
    if (group === undefined) groups.set(key, [item])
    else group.push(item)
  }
  return [...groups.values()]
}

/** ORD-1 to ORD-4: in `user_seq` order, each of the three sequences counts 1, 2, 3 … */
export function expectSoundLog(log: readonly LogRecord[], length: number): void {
  expect(log.map((record) => record.userSeq)).toEqual(oneTo(length))
  for (const stream of groupBy(log, (record) => record.streamId)) {
    expect(stream.map((record) => record.streamSeq)).toEqual(oneTo(stream.length))
  }
  for (const device of groupBy(log, (record) => record.deviceId)) {
    expect(device.map((record) => record.deviceSeq)).toEqual(oneTo(device.length))
  }
}
