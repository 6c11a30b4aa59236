// An account whose one device writes, whose second reads along, and whose third has stopped reading; and strangers who
// must notice nothing of it. The test keeps none of what is published, so that memory shows the server's.

import { expect } from 'vitest'
import { follow, haveEvents, haveReceipts, roundTrip, wiresOf } from '../event-ordering/publishing.ts'
import { createAccount, type TestDevice } from '../support/account.ts'
import type { RawSession } from '../support/raw-device.ts'
import { startTestServer, type TestServer } from '../support/server.ts'
import { forget, readMetric, sealLarge } from './scene.ts'

export const SEND_BUFFER_BYTES = 64 * 1024
/** A page or a batch, its frame, and a receipt or a ping. */
export const ONE_PAGE_BYTES = 1100 * 1024
const EVENT_BYTES = 200 * 1024
const ROUND_EVENTS = 8
export const ROUND_BYTES = ROUND_EVENTS * EVENT_BYTES

export interface StoppedReader {
  readonly server: TestServer
  readonly sleeper: TestDevice
  readonly publishing: RawSession
  readonly awake: RawSession
  readonly asleep: RawSession
  readonly published: number
  /** The most that waited for sockets, of all that was looked at. */
  readonly worstBytes: number
  bufferedBytes(): Promise<number>
  /** Publishes, and waits until everybody who reads has it. */
  publishRound(): Promise<void>
  publishUntilFull(): Promise<void>
  /** One event between two devices of another user. */
  passBetweenStrangers(): Promise<void>
}

export const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i)

export const seqsOf = (...sessions: readonly RawSession[]): number[] =>
  sessions.flatMap(({ events }) => events.map(({ userSeq }) => userSeq))

export interface StoppedReaderOptions {
  readonly now?: () => number
  /** Where the third device connects, made of the server's URL: it goes on reading, and the way stops it. */
  readonly wayTo?: (url: string) => Promise<string>
}

export async function createStoppedReader(
  flags: Readonly<Record<string, string>>,
  { now, wayTo }: StoppedReaderOptions = {},
): Promise<StoppedReader> {
  const server = await startTestServer({
    database: 'postgres',
    flags: { VALISE_SEND_BUFFER_BYTES: String(SEND_BUFFER_BYTES), ...flags },
    ...(now === undefined ? {} : { now }),
  })
  const { devices } = await createAccount(server, { devices: 3 })
  const [writer, , sleeper] = devices as [TestDevice, TestDevice, TestDevice]
  const publishing = await follow(server, writer)
  const awake = await follow(server, devices[1]!)
  const url = wayTo === undefined ? server.url : await wayTo(server.url)
  const asleep = await follow({ url, fingerprint: server.fingerprint }, sleeper)
  const strangers = (await createAccount(server, { devices: 2 })).devices
  const speaking = await follow(server, strangers[0]!)
  const hearing = await follow(server, strangers[1]!)
  if (wayTo === undefined) asleep.socket.pause()

  let published = 0
  let worstBytes = 0
  const bufferedBytes = (): Promise<number> => readMetric(server, 'valise_send_buffered_bytes')
  const publishRound = async (): Promise<void> => {
    for (const { wire } of await sealLarge(writer, ROUND_EVENTS, EVENT_BYTES)) publishing.publish([wire])
    await haveReceipts(publishing, ROUND_EVENTS)
    published += ROUND_EVENTS
    await awake.until('the events of the round', () => awake.through === published)
    expect(seqsOf(awake)).toEqual(range(published - ROUND_EVENTS + 1, published))
    forget(publishing, awake, writer)
    worstBytes = Math.max(worstBytes, await bufferedBytes())
  }

  return {
    server,
    sleeper,
    publishing,
    awake,
    asleep,
    get published() {
      return published
    },
    get worstBytes() {
      return worstBytes
    },
    bufferedBytes,
    publishRound,
    publishUntilFull: async () => {
      while ((await bufferedBytes()) <= SEND_BUFFER_BYTES) await publishRound()
    },
    passBetweenStrangers: async () => {
      speaking.publish(wiresOf([await strangers[0]!.seal('b')]))
      await haveEvents(hearing, hearing.events.length + 1)
    },
  }
}

/** Begins now, and stands still but for what passes. */
export function createMovedClock() {
  let nowMs = Date.now()
  return {
    now: () => nowMs,
    /** Passes more than a session may be silent, and waits until the server has looked at the clock and pinged. */
    pass: async ({ publishing, awake }: StoppedReader, ms: number): Promise<void> => {
      const pings = (): number => awake.messages.filter(({ type }) => type === 'ping').length
      const before = pings()
      nowMs += ms
      await awake.until('the ping of a silent session', () => pings() > before)
      await Promise.all([awake, publishing].map(roundTrip))
    },
  }
}
