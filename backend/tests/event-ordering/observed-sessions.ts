// What every session of a device was told, held against what is stored: also those that were superseded, cut, or given
// up before they were used, whose last words the device itself no longer hears.

import { toHex } from '@valise/protocol'
import { expect } from 'vitest'
import type { TestDevice } from '../support/account.ts'
import type { RawSession } from '../support/raw-device.ts'
import type { ReceivedEvent } from '../support/received-event.ts'

export interface ObservedSession {
  readonly session: RawSession
  /** The cursor it resumed with; undefined when it never did. */
  readonly resumedAfter: number | undefined
}

/**
 * Of a device whose sessions but the last have ended. What it published is stored as sealed, in its order, nothing
 * twice. Each session was given exactly what others stored between its cursor and its `through`, and no receipt but
 * such as say where the event is stored; of each event at most one says that it was stored just then.
 */
export function expectExactSessions(
  device: TestDevice,
  sessions: readonly ObservedSession[],
  stored: readonly ReceivedEvent[],
): void {
  const ownId = toHex(device.deviceId)
  const own = stored.filter(({ deviceId }) => deviceId === ownId)
  const others = stored.filter(({ deviceId }) => deviceId !== ownId)
  expect(own.map(({ wire }) => Buffer.from(wire!))).toEqual(device.sealed.map(({ wire }) => Buffer.from(wire)))

  const storedJustThen: number[] = []
  for (const { session, resumedAfter } of sessions) {
    const isDue = ({ userSeq }: ReceivedEvent): boolean =>
      resumedAfter !== undefined && userSeq > resumedAfter && userSeq <= session.through
    expect(session.events).toEqual(others.filter(isDue))

    const places = session.receipts.map(([deviceSeq]) => placeOf(own[deviceSeq - 1]))
    expect(session.receipts.map((receipt) => receipt.slice(0, 4))).toEqual(places)
    const fresh = session.receipts.filter(([, , , , isDuplicate]) => !isDuplicate).map(([deviceSeq]) => deviceSeq)
    expect(fresh).toEqual(fresh.toSorted((a, b) => a - b))
    storedJustThen.push(...fresh)
  }
  expect(storedJustThen.toSorted((a, b) => a - b)).toEqual([...new Set(storedJustThen)].toSorted((a, b) => a - b))
}

/** As a receipt says it. */
const placeOf = (event: ReceivedEvent | undefined): unknown[] =>
  event === undefined ? [] : [event.deviceSeq, event.streamSeq, event.userSeq, event.storedAtMs]
