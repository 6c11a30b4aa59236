// Every check of PROTOCOL E that needs no content key, over one `events` message: a pure function of the message and of
// what this device knows. It changes nothing; the receiver commits what comes out, or stops for the alarm.

import {
  type Crypto,
  chainAfter,
  type DeviceId,
  type DeviceLogState,
  type DeviceState,
  type EventLeaf,
  formatUuid,
  hasUnknownFlags,
  isBeyondCut,
  isNewerEvent,
  isSameId,
  type LeafItem,
  leafOf,
  MAX_TTL_S,
  type ParsedEvent,
  parseEvent,
  parseFlags,
  type StoredEvent,
  toDeviceId,
  toHex,
  verifyEventSignature,
} from '@valise/protocol'
import { countHoles, type Hole } from '../store/holes.ts'
import type { LogEvent } from '../store/local-log.ts'
import type { DeviceHead, Progress, StreamHead } from '../store/records.ts'
import {
  type CheckFailure,
  checkContinues,
  checkCut,
  checkDevice,
  checkStream,
  Finding,
  fail,
  type Where,
} from './check-rules.ts'
import { type ExcuseParts, excuseOf, type LeafPlace } from './excuses.ts'

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
  /** The hash of an entry of the device log. */
  logHeadAt(seq: number): Uint8Array | undefined
  /** Whether the server said that the bytes there are pruned. */
  isPruned(userSeq: number): boolean
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

/** The last signature that the batch has of the device does not hold: nothing proves its events from `fromSeq` on. */
export interface UnprovedTail {
  readonly deviceId: DeviceId
  readonly fromSeq: number
  /** Where the first of them stands. */
  readonly userSeq: number
}

export interface CheckedBatch {
  readonly events: readonly CheckedEvent[]
  readonly unproved: readonly UnprovedTail[]
  /** The cursor never passes the last event that is held: that the log is complete beyond it is a claim. */
  readonly progress: Progress
  /** Places up to `through` that nothing is held of. */
  readonly missing: number
  readonly deviceHeads: ReadonlyMap<string, { readonly deviceId: DeviceId; readonly head: DeviceHead }>
  readonly streamHeads: ReadonlyMap<string, { readonly streamId: Uint8Array; readonly head: StreamHead }>
}

export type CheckOutcome = { readonly type: 'ok'; readonly batch: CheckedBatch } | CheckFailure

export interface EventsToCheck {
  readonly events: readonly (StoredEvent | LeafItem)[]
  readonly through: number
  /** The server's time when it read the log for this message, Unix milliseconds. */
  readonly at?: number | undefined
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

function check({ crypto, known, ownDeviceId }: CheckParts, { events, through, at }: EventsToCheck): CheckedBatch {
  const { userId } = known.device
  const deviceHeads = new Map<string, { deviceId: DeviceId; head: DeviceHead }>()
  const signedByDevice = new Map<string, { device: DeviceState; signed: SignedPlace[] }>()
  const checked: CheckedEvent[] = []
  const walk = createWalk(known)

  for (const item of events) {
    const [userSeq, streamSeq, storedAtMs] = item
    const source = readItem(crypto, item)
    const { deviceId, deviceSeq, event } = source
    const where = { user_seq: userSeq, device: formatUuid(deviceId), device_seq: deviceSeq }
    if (ownDeviceId !== undefined && isSameId(deviceId, ownDeviceId)) throw fail('own_event', where)
    if (event !== undefined && !isSameId(event.userId, userId)) throw fail('foreign_event', where)
    const device = checkDevice(known, deviceId, { deviceSeq, event }, where)
    const isVoid = isBeyondCut(device, deviceSeq)

    const hex = toHex(deviceId)
    const head = deviceHeads.get(hex)?.head ?? known.deviceHead(deviceId)
    const chainPrev = checkContinues(crypto, userId, { deviceId, deviceSeq, event, head }, where)
    const chain = chainAfter(crypto, chainPrev, source.leaf)
    checkCut(device, deviceSeq, chain, where)
    const logSeq = event === undefined || isVoid ? (head?.logSeq ?? 0) : event.logSeq
    if (head !== undefined && logSeq < head.logSeq) throw fail('log_seq_invalid', { ...where, log_seq: logSeq })

    const body =
      source.body ?? excuse(source.leaf, { userSeq, storedAtMs }, { atMs: at, isPruned: known.isPruned }, where)
    walk.to({ userSeq, streamSeq, streamId: event?.streamId })
    deviceHeads.set(hex, { deviceId, head: { deviceSeq, chain, logSeq, userSeq } })
    if (event !== undefined && !isVoid) {
      const ofDevice = signedByDevice.get(hex) ?? { device, signed: [] }
      ofDevice.signed.push({ event, userSeq })
      signedByDevice.set(hex, ofDevice)
    }
    checked.push({ userSeq, streamSeq, storedAtMs, deviceId, deviceSeq, chain, body, isVoid })
  }
  const lastUserSeq = checked.at(-1)?.userSeq
  if (lastUserSeq !== undefined && through < lastUserSeq) {
    throw fail('through_inconsistent', { through, user_seq: lastUserSeq })
  }
  const unproved = [...signedByDevice.values()].flatMap(({ device, signed }) => findUnproved(crypto, device, signed))
  return { events: checked, unproved, deviceHeads, ...walk.finish(through) }
}

interface SignedPlace {
  readonly event: ParsedEvent
  readonly userSeq: number
}

/** One signature covers all that the device wrote before it, so the last one that holds is looked for. */
function findUnproved(
  crypto: Crypto,
  { deviceId, record }: DeviceState,
  signed: readonly SignedPlace[],
): UnprovedTail[] {
  const proved = signed.findLastIndex(({ event }) => verifyEventSignature(crypto, record.edPub, event))
  const first = signed[proved + 1]
  return first === undefined ? [] : [{ deviceId, fromSeq: first.event.deviceSeq, userSeq: first.userSeq }]
}

interface Item {
  readonly deviceId: DeviceId
  readonly deviceSeq: number
  readonly leaf: EventLeaf
  readonly event: ParsedEvent | undefined
  /** `undefined` when its bytes are gone. */
  readonly body: Extract<LogEvent['body'], { type: 'stored' }> | undefined
}

/** What stands in the place of an event whose bytes are gone. Throws a `Finding` when they may not be. */
function excuse(leaf: EventLeaf, place: LeafPlace, parts: ExcuseParts, where: Where): LogEvent['body'] {
  const found = excuseOf(leaf, place, parts)
  if (found === undefined) throw fail('bytes_withheld', where)
  return { type: 'expired', leaf, excuse: found }
}

/** What an event of a message says of itself. Throws a `Finding`. */
export function readItem(crypto: Crypto, item: StoredEvent | LeafItem): Item {
  if (item.length === 8) {
    const [userSeq, , , idBytes, deviceSeq, ttlS, flags, inner] = item
    const leaf = { ttlS, flags, inner }
    const deviceId = toDeviceId(idBytes)
    if (hasUnknownFlags(flags)) throw new Finding({ type: 'update_needed' })
    if (deviceId === undefined || parseFlags(flags) === undefined || ttlS > MAX_TTL_S) {
      throw fail('malformed_event', { user_seq: userSeq })
    }
    return { deviceId, deviceSeq, leaf, event: undefined, body: undefined }
  }
  const [userSeq, , , wire] = item
  const event = parseEvent(wire)
  if (event === undefined && isNewerEvent(wire)) throw new Finding({ type: 'update_needed' })
  if (event === undefined) throw fail('malformed_event', { user_seq: userSeq })
  const { deviceId, deviceSeq } = event
  return { deviceId, deviceSeq, leaf: leafOf(crypto, event), event, body: { type: 'stored', wire, event } }
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
