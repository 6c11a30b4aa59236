// The few steps that most tests of order are made of.

import { expect } from 'vitest'
import type { PublishedEvent, TestDevice } from '../support/account.ts'
import type { RawSession, SessionTarget } from '../support/raw-device.ts'
import { createSeededRandom } from '../support/seeded-random.ts'

export const wiresOf = (events: readonly PublishedEvent[]): Uint8Array[] => events.map((event) => event.wire)

/** Connected, and live after everything there was. */
export async function follow(target: SessionTarget, device: TestDevice, cursor = 0): Promise<RawSession> {
  const session = await device.connect(target, { cursor })
  await session.until('caught_up', () => session.isCaughtUp)
  expect(session.through).toBeGreaterThanOrEqual(session.established.head)
  return session
}

/** Publishes in frames of uneven size, without waiting for an answer. */
export function publishInFrames(session: RawSession, events: readonly PublishedEvent[], seed: number): void {
  const random = createSeededRandom(seed)
  for (let at = 0; at < events.length; ) {
    const frame = events.slice(at, at + 1 + random.below(9))
    session.publish(wiresOf(frame))
    at += frame.length
  }
}

/** Publishes and waits for the receipts, and for the new session keys if it was time for them. */
export async function publishAll(session: RawSession, events: readonly PublishedEvent[]): Promise<void> {
  const before = session.receipts.length
  publishInFrames(session, events, before)
  await haveReceipts(session, before + events.length)
  await session.until('the new keys', () => !session.channel.isRekeying())
}

export const haveReceipts = (session: RawSession, count: number): Promise<void> =>
  session.until(`${count} receipts`, () => session.receipts.length >= count)

export const haveEvents = (session: RawSession, count: number): Promise<void> =>
  session.until(`${count} events`, () => session.events.length >= count)

/** A ping and its pong: whatever the server had sent before is here when it resolves. */
export async function roundTrip(session: RawSession): Promise<void> {
  const before = session.messages.length
  session.send({ type: 'ping', id: before })
  await session.until('the pong', () => session.messages.slice(before).some(({ type }) => type === 'pong'))
}
