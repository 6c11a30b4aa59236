// A device that does what the protocol asks of a publisher: it keeps what has no receipt and sends the same bytes again,
// in a new session when the old one is gone, until all of it is acknowledged. Every receipt it was ever given is kept.

import type { Receipt } from '@valise/protocol'
import { expect } from 'vitest'
import { until } from '../bad-input/server-state.ts'
import type { PublishedEvent, TestDevice } from '../support/account.ts'
import type { RawSession, SessionTarget } from '../support/raw-device.ts'

/** Events in one message. */
const CHUNK = 20
/** Events under way, at most, in a steady load. */
const WINDOW = 100

export interface PatientPublisher {
  readonly device: TestDevice
  readonly events: readonly PublishedEvent[]
  /** All receipts of an event, the first one first, by device_seq. */
  readonly receiptsBySeq: ReadonlyMap<number, readonly Receipt[]>
  readonly unavailableCount: number
  /** Seals and sends; resolves without waiting for an answer. */
  publish(count: number): Promise<void>
  /** A steady load, message after message, until `isDone`. */
  publishUntil(isDone: () => boolean): Promise<void>
  /** Sends what has no receipt until all of it has one. */
  untilAcknowledged(): Promise<void>
  readonly session: RawSession
  leave(): void
}

export async function createPatientPublisher(target: SessionTarget, device: TestDevice): Promise<PatientPublisher> {
  const events: PublishedEvent[] = []
  const receiptsBySeq = new Map<number, Receipt[]>()
  let unavailableCount = 0

  const connect = (): Promise<RawSession> =>
    device.connect(target, {
      onMessage: (message) => {
        if (message.type === 'unavailable') unavailableCount++
        if (message.type !== 'receipts') return
        for (const receipt of message.receipts) {
          const known = receiptsBySeq.get(receipt[0])
          if (known === undefined) receiptsBySeq.set(receipt[0], [receipt])
          else known.push(receipt)
        }
      },
    })
  let session = await connect()

  const send = (sent: readonly PublishedEvent[]): void => {
    for (let at = 0; at < sent.length; at += CHUNK) session.publish(sent.slice(at, at + CHUNK).map(({ wire }) => wire))
  }
  const unanswered = (): PublishedEvent[] => events.filter(({ deviceSeq }) => !receiptsBySeq.has(deviceSeq))

  const publish = async (count: number): Promise<void> => {
    const sealed = await device.sealMany('notes', count)
    events.push(...sealed)
    send(sealed)
  }

  return {
    device,
    events,
    receiptsBySeq,
    get unavailableCount() {
      return unavailableCount
    },
    get session() {
      return session
    },
    publish,
    publishUntil: async (isDone) => {
      while (!isDone()) {
        await publish(CHUNK)
        await session.until('room', () => isDone() || unanswered().length <= WINDOW - CHUNK)
      }
    },
    untilAcknowledged: async () => {
      await until(async () => {
        if (session.closeFrame !== undefined) session = await connect()
        const toldBefore = unavailableCount
        send(unanswered())
        await session.until('receipts, or word that there are none', () => {
          return unanswered().length === 0 || unavailableCount > toldBefore
        })
        expect(session.refusals).toEqual([])
        expect(unanswered().length).toBe(0)
      })
    },
    leave: () => session.drop(),
  }
}

/**
 * The log holds every event exactly once, where its first receipt says, in one gapless order, and nothing else:
 * what was acknowledged is there, and what was sent again is not there twice.
 */
export async function expectStoredOnce(
  target: SessionTarget,
  publishers: readonly PatientPublisher[],
  reader: TestDevice,
): Promise<void> {
  const total = publishers.reduce((sum, { events }) => sum + events.length, 0)
  const session = await reader.connect(target, { cursor: 0 })
  await session.until('the whole log', () => session.isCaughtUp && session.events.length >= total)
  const found = session.events.map(({ userSeq, streamSeq, storedAtMs, eventId }) => [
    eventId,
    userSeq,
    streamSeq,
    storedAtMs,
  ])
  const expected = publishers.flatMap(({ events, receiptsBySeq }) =>
    events.map(({ eventId, deviceSeq }) => {
      const [first, ...others] = receiptsBySeq.get(deviceSeq) ?? []
      for (const other of others) expect(other).toEqual([...first!.slice(0, 4), true])
      const [, streamSeq, userSeq, storedAtMs] = first!
      return [Buffer.from(eventId).toString('hex'), userSeq, streamSeq, storedAtMs]
    }),
  )
  expected.sort((a, b) => Number(a[1]) - Number(b[1]))
  expect(found).toEqual(expected)
  expect(session.events.map(({ userSeq }) => userSeq)).toEqual(expected.map((_event, index) => index + 1))
  session.drop()
}
