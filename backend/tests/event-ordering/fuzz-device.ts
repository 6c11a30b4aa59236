// A device under chance: it publishes, loses its socket, comes back on any node, sends again what has no receipt, and
// keeps its log and cursor through all of it, as a client does. It believes nothing: what breaks a rule is noted at once.

import { type ServerMessage, toHex } from '@valise/protocol'
import type { PublishedEvent, TestDevice } from '../support/account.ts'
import type { RawSession, SessionTarget } from '../support/raw-device.ts'
import { readEvents } from '../support/received-event.ts'
import type { SeededRandom } from '../support/seeded-random.ts'
import type { LogRecord } from './observed-log.ts'
import type { ObservedSession } from './observed-sessions.ts'

export interface FuzzDevice {
  readonly name: string
  readonly device: TestDevice
  readonly isConnected: boolean
  /** What broke a rule, in words that name it. */
  readonly problems: readonly string[]
  /** By `user_seq`. */
  readonly log: readonly LogRecord[]
  /** All it ever had, whether it heard them out or not. */
  readonly sessions: readonly ObservedSession[]
  /** Seals events and sends them if it can; without a receipt they are sent again. */
  publish(streamNames: readonly string[]): Promise<void>
  /**
   * A newer session supersedes an older one that is still open; a handshake under way is cut off. False when the node
   * cannot be reached.
   */
  connect(target: SessionTarget): Promise<boolean>
  drop(): void
  pause(): void
  /** Reads on from a socket that was paused. */
  resume(): void
  /** Comes back as often as it takes, until all receipts and the whole log of `total` events are here. */
  settle(targets: readonly SessionTarget[], total: number): Promise<void>
  /** Resolves when every session but the one it has is over, and nothing more is said in it. */
  untilOthersEnd(): Promise<void>
}

/** Below the events that a session may publish under one set of keys. */
const MAX_OUTBOX = 60
const SETTLE_MS = 20_000

export function createFuzzDevice(name: string, device: TestDevice, random: SeededRandom): FuzzDevice {
  const problems: string[] = []
  const sessions: { readonly session: RawSession; resumedAfter: number | undefined }[] = []
  const logBySeq = new Map<number, LogRecord>()
  const seqByOwn = new Map<number, number>()
  const ownId = toHex(device.deviceId)
  let outbox: PublishedEvent[] = []
  let mustResend = false
  let cursor = 0
  let session: RawSession | undefined
  let dialling: AbortController | undefined
  let dials = 0
  let connecting: Promise<boolean> | undefined

  const note = (rule: string, what: string): void => {
    problems.push(`${rule}: ${name} ${what}`)
  }

  const record = (entry: LogRecord): void => {
    const known = logBySeq.get(entry.userSeq)
    if (known !== undefined && known.eventId !== entry.eventId) note('ORD-3', `saw two events at ${entry.userSeq}`)
    logBySeq.set(entry.userSeq, entry)
  }

  const takeReceipts = (message: Extract<ServerMessage, { type: 'receipts' }>): void => {
    for (const [deviceSeq, streamSeq, userSeq, , isDuplicate] of message.receipts) {
      const event = device.sealed[deviceSeq - 1]
      if (event === undefined) return note('P4', `got a receipt for ${deviceSeq}, which it never sent`)
      const first = seqByOwn.get(deviceSeq)
      if (first !== undefined && first !== userSeq) note('P4', `got receipts ${first} and ${userSeq} for ${deviceSeq}`)
      if (first !== undefined && !isDuplicate) note('P4', `had ${deviceSeq} stored twice`)
      seqByOwn.set(deviceSeq, userSeq)
      const place = { userSeq, streamSeq, deviceSeq }
      record({ ...place, eventId: toHex(event.eventId), deviceId: ownId, streamId: toHex(event.streamId) })
      outbox = outbox.filter((waiting) => waiting.deviceSeq !== deviceSeq)
    }
  }

  const takeEvents = (message: Extract<ServerMessage, { type: 'events' }>): void => {
    for (const { userSeq, streamSeq, deviceId, deviceSeq, streamId, eventId } of readEvents(message)) {
      if (userSeq <= cursor) note('ORD-5', `got ${userSeq} after ${cursor}`)
      if (deviceId === ownId) note('ORD-5', `got its own event at ${userSeq}`)
      cursor = Math.max(cursor, userSeq)
      record({ userSeq, streamSeq, deviceId, deviceSeq, streamId, eventId })
    }
    if (message.through < cursor) note('ORD-5', `got through ${message.through} with events up to ${cursor}`)
    cursor = Math.max(cursor, message.through)
  }

  const take = (message: ServerMessage): void => {
    switch (message.type) {
      case 'receipts':
        return takeReceipts(message)
      case 'events':
        return takeEvents(message)
      case 'caught_up':
        cursor = Math.max(cursor, message.user_seq)
        return
      case 'unavailable':
        mustResend = true
        return
      case 'refused':
        // A frame that overtook one the database could not take.
        if (message.code === 'device_seq_gap') mustResend = true
        else note('ORD-1', `was refused with ${message.code}`)
        return
      case 'resync_required':
        note('P3', `was told to resync: ${message.reason}`)
    }
  }

  const send = (events: readonly PublishedEvent[]): void => {
    for (let at = 0; at < events.length; ) {
      const frame = events.slice(at, at + 1 + random.below(12))
      session?.publish(frame.map((event) => event.wire))
      at += frame.length
    }
  }

  /** What has no receipt goes out again, byte for byte. */
  const resend = (): void => {
    if (session === undefined || session.channel.isRekeying()) return
    mustResend = false
    send(outbox)
  }

  const adopt = (observed: (typeof sessions)[number]): void => {
    const newest = observed.session
    session = newest
    observed.resumedAfter = cursor
    const dialsBefore = dials
    void newest.closed.then(({ code }) => {
      if (session !== newest) return
      session = undefined
      // A later dial may have reached a node although it came to nothing here.
      if (code === 4405 && dials === dialsBefore) note('SES-3', 'was superseded although its session was the newest')
    })
    newest.send({ type: 'resume', cursor, log_epoch: null })
    resend()
  }

  const dialNode = async (target: SessionTarget): Promise<boolean> => {
    dials++
    dialling?.abort()
    const dialled = new AbortController()
    dialling = dialled
    session?.socket.resume()
    try {
      // An older session goes on until the new one stands; then nothing it says counts any more.
      let connected: RawSession | undefined
      const onMessage = (message: ServerMessage): unknown => session === connected && take(message)
      connected = await device.connect(target, { onMessage, signal: dialled.signal })
      const observed = { session: connected, resumedAfter: undefined }
      sessions.push(observed)
      if (dialling !== dialled) return false
      dialling = undefined
      adopt(observed)
      return true
    } catch {
      if (dialling === dialled) dialling = undefined
      return false
    }
  }

  const connect = (target: SessionTarget): Promise<boolean> => {
    const dialled = dialNode(target)
    connecting = dialled
    return dialled
  }

  return {
    name,
    device,
    get isConnected() {
      return session !== undefined
    },
    problems,
    get log() {
      return [...logBySeq.values()].sort((a, b) => a.userSeq - b.userSeq)
    },
    sessions,
    publish: async (streamNames) => {
      if (outbox.length + streamNames.length > MAX_OUTBOX) return
      const events: PublishedEvent[] = []
      for (const streamName of streamNames) events.push(await device.seal(streamName))
      outbox.push(...events)
      if (mustResend || session?.channel.isRekeying()) mustResend = true
      else send(events)
    },
    connect,
    drop: () => {
      dialling?.abort()
      dialling = undefined
      session?.drop()
      session = undefined
    },
    pause: () => {
      // A session that is being superseded is left to answer its close.
      if (dialling === undefined) session?.socket.pause()
    },
    resume: () => session?.socket.resume(),
    settle: async (targets, total) => {
      const endAtMs = performance.now() + SETTLE_MS
      await connecting
      session?.socket.resume()
      mustResend = true
      while (outbox.length > 0 || logBySeq.size < total) {
        if (performance.now() > endAtMs) throw new Error(`${name} holds ${logBySeq.size} of ${total} events`)
        if (session === undefined && !(await connect(random.pick(targets)))) continue
        await session
          ?.until(`${name} to hold ${total} events`, () => {
            if (mustResend) resend()
            return outbox.length === 0 && logBySeq.size >= total
          })
          .catch((error: unknown) => {
            // Closed: the next round comes back. Silent until the deadline: something is lost.
            if (performance.now() > endAtMs) throw error
          })
      }
    },
    untilOthersEnd: async () => {
      await Promise.all(sessions.filter((other) => other.session !== session).map((other) => other.session.closed))
    },
  }
}
