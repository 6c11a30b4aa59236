// Every check of PROTOCOL E that needs no content key, over one `events` message: a pure function of the message and of
// what this device knows. It changes nothing; the receiver commits what comes out, or stops for the alarm.

import {
  type Crypto,
  type DeviceId,
  type DeviceLogState,
  type DeviceState,
  type ExpiredEvent,
  formatUuid,
  isBeyondCut,
  isSameId,
  leafHash,
  nextChain,
  type ParsedEvent,
  parseEvent,
  type StoredEvent,
  toDeviceId,
  toHex,
  verifyChainSignature,
} from '@valise/protocol'
import { countHoles, type Hole } from '../store/holes.ts'
import type { LogEvent } from '../store/local-log.ts'
import type { DeviceHead, Progress, StreamHead } from '../store/records.ts'
import { type CheckFailure, checkContinues, checkCut, checkDevice, checkStream, Finding, fail } from './check-rules.ts'

/** An event of this device that has its receipt. */
export interface OwnEvent {
  readonly userSeq: number
  readonly streamSeq: number
  readonly streamId: Uint8Array
}

/** What this device knows before the message. */
export interface KnownLog {
  readonly device: DeviceLogState
  readonly progress: Progress
  deviceHead(deviceId: DeviceId): DeviceHead | undefined
  /** Of positions up to the cursor. */
  streamHead(streamId: Uint8Array): StreamHead | undefined
  /** Own events beyond the cursor, by user_seq. */
  ownAhead(): readonly OwnEvent[]
}

export interface CheckedEvent extends LogEvent {
  /** Of a revoked device, beyond its cut: kept in its place, opened by nobody. */
  readonly isVoid: boolean
}

export interface CheckedBatch {
  readonly events: readonly CheckedEvent[]
  /** The cursor never passes the last event that is held: that the log is complete beyond it is a claim. */
  readonly progress: Progress
  /** Places up to `through` that nothing is held of. */
  readonly missing: number
  readonly deviceHeads: ReadonlyMap<string, { readonly deviceId: DeviceId; readonly head: DeviceHead }>
  readonly streamHeads: ReadonlyMap<string, { readonly streamId: Uint8Array; readonly head: StreamHead }>
}

export type CheckOutcome = { readonly type: 'ok'; readonly batch: CheckedBatch } | CheckFailure

export interface EventsToCheck {
  readonly events: readonly (StoredEvent | ExpiredEvent)[]
  readonly through: number
}

export interface CheckParts {
  readonly crypto: Crypto
  readonly known: KnownLog
  /** Never delivered to itself; `undefined` when a whole store is checked. */
  readonly ownDeviceId: DeviceId | undefined
}

export function checkEvents(parts: CheckParts, message: EventsToCheck): CheckOutcome {
  try {
    return { type: 'ok', batch: check(parts, message) }
  } catch (error) {
    if (error instanceof Finding) return error.failure
    throw error
  }
}

function check({ crypto, known, ownDeviceId }: CheckParts, { events, through }: EventsToCheck): CheckedBatch {
  const { userId } = known.device
  const deviceHeads = new Map<string, { deviceId: DeviceId; head: DeviceHead }>()
  const lastSigned = new Map<string, { device: DeviceState; event: ParsedEvent; chain: Uint8Array; userSeq: number }>()
  const checked: CheckedEvent[] = []
  const walk = createWalk(known)

  for (const item of events) {
    const [userSeq, streamSeq, storedAtMs] = item
    const source = readItem(crypto, item)
    const { deviceId, deviceSeq, event } = source
    const where = { user_seq: userSeq, device: formatUuid(deviceId), device_seq: deviceSeq }
    if (ownDeviceId !== undefined && isSameId(deviceId, ownDeviceId)) throw fail('own_event', where)
    if (event !== undefined && !isSameId(event.userId, userId)) throw fail('foreign_event', where)
    const device = checkDevice(known.device, deviceId, { deviceSeq, event }, where)
    const isVoid = isBeyondCut(device, deviceSeq)

    const hex = toHex(deviceId)
    const head = deviceHeads.get(hex)?.head ?? known.deviceHead(deviceId)
    const chainPrev = checkContinues(crypto, userId, { deviceId, deviceSeq, event, head }, where)
    const chain = nextChain(crypto, chainPrev, source.leaf)
    checkCut(device, deviceSeq, chain, where)
    const logSeq = event === undefined || isVoid ? (head?.logSeq ?? 0) : event.logSeq
    if (head !== undefined && logSeq < head.logSeq) throw fail('log_seq_invalid', { ...where, log_seq: logSeq })

    walk.to({ userSeq, streamSeq, streamId: event?.streamId })
    deviceHeads.set(hex, { deviceId, head: { deviceSeq, chain, logSeq, userSeq } })
    if (event !== undefined && !isVoid) lastSigned.set(hex, { device, event, chain, userSeq })
    checked.push({ userSeq, streamSeq, storedAtMs, deviceId, deviceSeq, chain, body: source.body, isVoid })
  }
  const lastUserSeq = checked.at(-1)?.userSeq
  if (lastUserSeq !== undefined && through < lastUserSeq) {
    throw fail('through_inconsistent', { through, user_seq: lastUserSeq })
  }
  // One signature covers all that the device wrote before it.
  for (const { device, event, chain, userSeq } of lastSigned.values()) {
    if (!verifyChainSignature(crypto, device.record.edPub, chain, event.signature)) {
      throw fail('signature_invalid', { user_seq: userSeq, device: formatUuid(device.deviceId) })
    }
  }
  return { events: checked, deviceHeads, ...walk.finish(through) }
}

interface Item {
  readonly deviceId: DeviceId
  readonly deviceSeq: number
  readonly leaf: Uint8Array
  readonly event: ParsedEvent | undefined
  readonly body: LogEvent['body']
}

/** What an event of a message says of itself. Throws a `Finding`. */
export function readItem(crypto: Crypto, item: StoredEvent | ExpiredEvent): Item {
  if (item.length === 6) {
    const [userSeq, , , idBytes, deviceSeq, leaf] = item
    const deviceId = toDeviceId(idBytes)
    if (deviceId === undefined) throw fail('malformed_event', { user_seq: userSeq })
    return { deviceId, deviceSeq, leaf, event: undefined, body: { type: 'expired', leaf } }
  }
  const [userSeq, , , wire] = item
  const event = parseEvent(wire)
  if (event === undefined) throw fail('malformed_event', { user_seq: userSeq })
  const { deviceId, deviceSeq } = event
  return { deviceId, deviceSeq, leaf: leafHash(crypto, event.leafInput), event, body: { type: 'stored', wire, event } }
}

/** Walks the log upward from the cursor: positions of the message, own ones in between, and the holes that remain. */
function createWalk(known: KnownLog) {
  const { progress } = known
  const streamHeads = new Map<string, { streamId: Uint8Array; head: StreamHead }>()
  const own = [...known.ownAhead()]
  let at = progress.cursor
  let { lastHole } = progress
  const holes: Hole[] = [...progress.holes]

  const step = (next: { userSeq: number; streamSeq: number; streamId: Uint8Array | undefined }): void => {
    const { userSeq, streamSeq, streamId } = next
    const where = { user_seq: userSeq }
    if (userSeq <= at) throw fail('order_broken', { ...where, after: at })
    if (userSeq > at + 1) {
      lastHole = userSeq - 1
      holes.push({ from: at + 1, to: lastHole })
    }
    if (streamId === undefined) lastHole = userSeq
    else {
      const hex = toHex(streamId)
      const head = streamHeads.get(hex)?.head ?? known.streamHead(streamId)
      checkStream(head, { userSeq, streamSeq }, lastHole, where)
      streamHeads.set(hex, { streamId, head: { userSeq, streamSeq } })
    }
    at = userSeq
  }
  const passOwn = (until: (userSeq: number) => boolean): void => {
    for (let next = own[0]; next !== undefined && until(next.userSeq); next = own[0]) {
      own.shift()
      step(next)
    }
  }
  return {
    to: (next: { userSeq: number; streamSeq: number; streamId: Uint8Array | undefined }): void => {
      passOwn((userSeq) => userSeq < next.userSeq)
      step(next)
    },
    finish: (through: number) => {
      passOwn((userSeq) => userSeq <= through)
      passOwn((userSeq) => userSeq === at + 1)
      const missing = countHoles(holes) + Math.max(0, through - at)
      return { progress: { ...progress, cursor: at, lastHole, holes }, missing, streamHeads }
    },
  }
}
