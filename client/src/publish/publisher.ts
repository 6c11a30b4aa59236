// Publishes what waits in the outbox: seals at the moment of sending, stores the sealed bytes before the first send,
// keeps a bounded window in flight, repairs what is refused, and turns receipts into events of the local log.
// Its methods run in the client's lane.

import { type EventId, findDevice, formatUuid, type Receipts, type Refused } from '@valise/protocol'
import { AlarmError } from '../alarm.ts'
import { CHECKPOINT_STREAM } from '../checkpoint.ts'
import type { Clock } from '../clock.ts'
import { isOwnName } from '../sealing/content.ts'
import { DEFAULT_WAIT_MS } from '../server-times.ts'
import type { LogEvent } from '../store/local-log.ts'
import type { StoreOperation } from '../store/store.ts'
import { createDelayWatch, type PublishDelay } from './delay.ts'
import type { SealedItem } from './own-chain.ts'
import { type AnnouncedRates, createPace } from './pace.ts'
import { meaningOf, refusalAlarm } from './refusals.ts'
import { createRepairer, type RepairParts } from './repair.ts'
import { type Draft, type SealingParts, sealRun } from './sealing-run.ts'
import { createSendWindow, type WindowItem, type WindowLimits } from './send-window.ts'

/** What the server answers for a stored event. */
export interface PublishReceipt {
  readonly eventId: EventId
  readonly streamName: string
  readonly deviceSeq: number
  readonly streamSeq: number
  readonly userSeq: number
  readonly storedAtMs: number
  readonly isDuplicate: boolean
}

export interface PublishSession {
  readonly lastDeviceSeq: number
  readonly maxPayload: number
  readonly maxMessageEvents: number
  readonly maxMessageBytes: number
  readonly rates: AnnouncedRates
  /** Events that may be sent now; when it grows again, pump. */
  allowance(): number
  send(events: Uint8Array[]): void
}

export interface Publisher {
  /** Throws alarms when the server's and this device's idea of its chain do not fit. */
  begin(session: PublishSession): void
  end(): void
  /** Sends, seals and repairs until there is nothing to do but wait. */
  pump(): Promise<void>
  receipts(message: Receipts): Promise<void>
  refused(message: Refused): void
  unavailable(retryAfterMs: number): void
}

export interface PublisherParts extends RepairParts {
  readonly clock: Clock
  readonly epochKeys: SealingParts['epochKeys'] & { streamId(name: string): Draft['streamId'] | undefined }
  readonly limits: WindowLimits
  /** To be stored with own events that got their receipts. */
  countEvents(count: number): StoreOperation[]
  onReceipt(receipt: PublishReceipt): void
  /** The server takes events later; undefined: it takes them again. */
  onDelay(delay: PublishDelay | undefined): void
  /** Something is to be tried again later: pump then. */
  onRetry(): void
  /** What was sent stays without an answer. */
  onOverdue(): void
}

export const DEFAULT_WINDOW_LIMITS: WindowLimits = {
  maxEvents: 512,
  maxBytes: 2 * 1024 * 1024,
  maxMessageEvents: 512,
  maxMessageBytes: 512 * 1024,
}

/** Signing dominates: so many take a few tens of milliseconds, after which the first can be on their way. */
const MAX_SEALED_AT_ONCE = 128
const ANSWER_TIMEOUT_MS = 30_000

const toWindowItem = (item: SealedItem): WindowItem => ({ deviceSeq: item.deviceSeq, bytes: item.wire.length })

export function createPublisher(parts: PublisherParts): Publisher {
  const { clock, outbox, chain, log, book, epochKeys, identity } = parts
  const { deviceId } = identity
  const window = createSendWindow(parts.limits)
  const pace = createPace()
  const delays = createDelayWatch(parts)
  window.add(chain.unreceipted.map(toWindowItem))
  let lastSealedPosition = chain.unreceipted.reduce((last, item) => Math.max(last, item.position ?? 0), 0)
  let session: PublishSession | undefined
  let cancelRetry = (): void => {}
  let cancelOverdue = (): void => {}

  const watchAnswers = (): void => {
    cancelOverdue()
    cancelOverdue = window.inFlight === 0 ? () => {} : clock.after(ANSWER_TIMEOUT_MS, parts.onOverdue)
  }

  /** An epoch that its maker sealed falsely may stay closed for a while: nothing is sealed until a manager starts the next. */
  const canSeal = (): boolean => epochKeys.contentKey(book.require().epoch.n) !== undefined
  const repairer = createRepairer({ ...parts, canSeal, onSealed: (items) => window.replace(items.map(toWindowItem)) })

  /** Whatever it publishes is refused, and stays in the outbox for its user to see. */
  const isSuspended = (): boolean => findDevice(book.state, deviceId)?.status.type === 'suspended'

  const streamIdOf = (streamName: string): Draft['streamId'] => {
    const streamId = epochKeys.streamId(streamName)
    if (streamId === undefined) throw new Error('the secret of the first epoch is missing')
    return streamId
  }

  const sealMore = async (maxEvents: number, maxBytes: number): Promise<boolean> => {
    const waiting = await outbox.read(lastSealedPosition, Math.min(maxEvents, MAX_SEALED_AT_ONCE), maxBytes)
    const last = waiting.at(-1)
    if (last === undefined || !canSeal()) return false
    // Nor where the first epoch is closed, of which the ids of streams are made.
    if (waiting.some(({ streamName }) => epochKeys.streamId(streamName) === undefined)) return false
    const drafts = waiting.map((item) => ({
      ...item,
      streamId: streamIdOf(item.streamName),
      isKept: isOwnName(item.streamName),
      checkpoint: item.streamName === CHECKPOINT_STREAM ? parts.checkpointList() : undefined,
    }))
    const sealed = await sealRun(parts, book.require(), chain.end, drafts)
    await chain.save(sealed, [])
    lastSealedPosition = last.position
    window.add(sealed.map(toWindowItem))
    return true
  }

  const send = (current: PublishSession, deviceSeqs: readonly number[]): void => {
    const wires = deviceSeqs.flatMap((deviceSeq) => chain.find(deviceSeq)?.wire ?? [])
    pace.take({ events: wires.length, bytes: wires.reduce((sum, wire) => sum + wire.length, 0) }, clock.now())
    current.send(wires)
    watchAnswers()
  }

  const retryAfter = (delayMs: number): void => {
    cancelRetry()
    cancelRetry = clock.after(delayMs, parts.onRetry)
  }

  /** What the keys hold back goes on with the new ones, what the pace holds back with time. */
  const retryForPace = (delayMs: number): void => {
    if (delayMs > 0) retryAfter(delayMs)
  }

  /** What is expected is neither beyond the event nor among those that have receipts. */
  const checkGap = (deviceSeq: number, expected: number | undefined): void => {
    const stored = log.deviceHead(deviceId)?.deviceSeq ?? 0
    if (expected === undefined) return
    if (expected > deviceSeq) throw refusalAlarm('refusal_false', deviceSeq, 'device_seq_gap')
    if (expected > stored) return
    const where = { device: formatUuid(deviceId), server: expected - 1, confirmed: stored }
    throw new AlarmError('receipts_withdrawn', where)
  }

  return {
    begin: (next) => {
      const stored = log.deviceHead(deviceId)?.deviceSeq ?? 0
      const where = { device: formatUuid(deviceId), server: next.lastDeviceSeq }
      if (next.lastDeviceSeq > chain.end.deviceSeq) {
        throw new AlarmError('device_cloned', { ...where, sealed: chain.end.deviceSeq })
      }
      if (next.lastDeviceSeq < stored) throw new AlarmError('receipts_withdrawn', { ...where, confirmed: stored })
      session = next
      pace.announced(next.rates)
      window.connected(next)
    },
    end: () => {
      session = undefined
      window.disconnected()
      cancelRetry()
      cancelOverdue()
    },
    pump: async () => {
      while (session !== undefined && !isSuspended()) {
        const nowMs = clock.now()
        const { waiting } = window
        const room = pace.room(waiting, nowMs)
        // Of the same moment as the room: a later one may find room, and nobody would come back to use it.
        const paceMs = waiting.events === 0 ? 0 : pace.waitMs(waiting, nowMs)
        const step = window.next(nowMs, Math.min(session.allowance(), room.events), room.bytes)
        switch (step.type) {
          case 'send':
            send(session, step.deviceSeqs)
            break
          case 'seal':
            if (await sealMore(step.maxEvents, step.maxBytes)) break
            return retryForPace(paceMs)
          case 'repair':
            if ((await repairer.repair(step.repair, session)) === 'repaired') break
            return
          case 'wait':
            return retryAfter(step.untilMs - clock.now())
          case 'idle':
            return retryForPace(paceMs)
        }
      }
    },
    receipts: async (message) => {
      const stored: { event: LogEvent; item: SealedItem; receipt: PublishReceipt }[] = []
      const answered = new Set<SealedItem>()
      let head = log.deviceHead(deviceId)
      for (const [deviceSeq, streamSeq, userSeq, storedAtMs, isDuplicate] of message.receipts) {
        const item = chain.find(deviceSeq)
        if (item === undefined || answered.has(item)) continue
        answered.add(item)
        const isOrdered = head === undefined || deviceSeq > head.deviceSeq === userSeq > head.userSeq
        if (!isOrdered || log.isHeld(userSeq))
          throw new AlarmError('receipt_contradiction', { device_seq: deviceSeq, user_seq: userSeq })
        const { wire, event, eventId, streamName } = item
        if (head === undefined || deviceSeq > head.deviceSeq) {
          head = { deviceSeq, chain: item.chain, logSeq: event.logSeq, userSeq }
        }
        const place = { deviceSeq, streamSeq, userSeq, storedAtMs }
        stored.push({
          item,
          event: { ...place, deviceId, chain: item.chain, body: { type: 'stored', wire, event } },
          receipt: { ...place, eventId, streamName, isDuplicate },
        })
      }
      if (stored.length === 0) return
      const ordinary = stored.filter(({ item }) => !item.event.isTombstone && !isOwnName(item.streamName))
      await log.commit({
        events: stored.map(({ event }) => event),
        progress: log.progress,
        deviceHeads: head === undefined ? [] : [{ deviceId, head }],
        streamHeads: [],
        also: [
          ...stored.map(({ item }) => chain.removal(item.deviceSeq)),
          ...stored.flatMap(({ item }) => (item.position === undefined ? [] : outbox.removal(item.position))),
          ...parts.countEvents(ordinary.length),
        ],
      })
      for (const { item } of stored) {
        chain.receipted(item.deviceSeq)
        window.receipt(item.deviceSeq)
        if (item.position !== undefined) outbox.settled(item.position)
      }
      watchAnswers()
      delays.receipted()
      for (const { item, receipt } of stored) if (!item.event.isTombstone) parts.onReceipt(receipt)
      parts.onSettled()
    },
    refused: ({ device_seq, code, expected, retry_after_ms }) => {
      const meaning = meaningOf(code)
      if (typeof meaning === 'object') throw refusalAlarm(meaning.alarm, device_seq, code)
      if (meaning === 'gap') checkGap(device_seq, expected)
      if (code === 'rate_limited') pace.empty(clock.now())
      const retryAtMs = clock.now() + (retry_after_ms ?? DEFAULT_WAIT_MS)
      window.refused(device_seq, code, { expected, retryAtMs })
      if (meaning === 'later') delays.refused(code, retryAtMs)
      watchAnswers()
    },
    unavailable: (retryAfterMs) => {
      const retryAtMs = clock.now() + retryAfterMs
      window.unavailable(retryAtMs)
      delays.refused('unavailable', retryAtMs)
      watchAnswers()
    },
  }
}
