// The last place at which the server's log and this device's copy are one and the same. A restored log begins as the old
// one, so they agree up to some place and never after it: an event stored anew has another time of storing, also when it
// comes to stand where it stood.

import {
  type Crypto,
  equalBytes,
  type LeafItem,
  leafHash,
  leafOf,
  parseEvent,
  type StoredEvent,
} from '@valise/protocol'
import { readItem } from '../receive/check-events.ts'
import { Finding, toError } from '../receive/check-rules.ts'
import type { HeldEvent, LocalLog } from '../store/local-log.ts'
import type { LogProbe } from './log-probe.ts'

export interface CommonPointParts {
  readonly crypto: Crypto
  readonly log: Pick<LocalLog, 'progress' | 'read' | 'placeOf'>
  readonly ownDeviceId: Uint8Array
  readonly probe: LogProbe
}

/** How far before the end the search begins; then so many times as far, until both agree. */
const FIRST_WINDOW = 512
const WINDOW_GROWTH = 8

/** A user_seq; 0 when the logs have nothing in common. */
export async function findCommonPoint({ crypto, log, ownDeviceId, probe }: CommonPointParts): Promise<number> {
  const { cursor, holes } = log.progress
  // What is missing here may be there now: both agree at most up to the first hole.
  const upper = Math.min(cursor, probe.established.head, (holes[0]?.from ?? Number.POSITIVE_INFINITY) - 1)
  const held = async (userSeq: number): Promise<HeldEvent | undefined> => {
    const [event] = await log.read(undefined, userSeq - 1, 1)
    return event?.userSeq === userSeq ? event : undefined
  }

  const isSame = async (item: StoredEvent | LeafItem): Promise<boolean> => {
    const [userSeq, streamSeq, storedAtMs] = item
    const own = await held(userSeq)
    if (own === undefined || own.record.streamSeq !== streamSeq || own.record.storedAtMs !== storedAtMs) return false
    const { deviceId, deviceSeq, leaf } = read(crypto, item)
    const ours = identify(crypto, own)
    return (
      ours !== undefined &&
      ours.deviceSeq === deviceSeq &&
      equalBytes(ours.deviceId, deviceId) &&
      equalBytes(leafHash(crypto, ours.leaf), leafHash(crypto, leaf))
    )
  }

  /** The last place after `from` at which both agree, if the first that can be compared does. */
  const compareAfter = async (from: number): Promise<number | undefined> => {
    let agreed: number | undefined
    let isOver = false
    await probe.replay(from, async (item) => {
      if (isOver || item[0] > upper) return
      if (await isSame(item)) agreed = item[0]
      else isOver = true
    })
    return agreed
  }

  const own = await findOwnPoint({ log, ownDeviceId, probe }, held)
  const low = own !== undefined && own <= upper ? own : 0
  for (let window = FIRST_WINDOW; ; window *= WINDOW_GROWTH) {
    const from = Math.max(low, upper - window)
    const agreed = await compareAfter(from)
    if (agreed !== undefined) return agreed
    if (from === low) return low
  }
}

/** Where the newest event of this device that the server still has stands, if it stands where it stood. */
async function findOwnPoint(
  { log, ownDeviceId, probe }: Omit<CommonPointParts, 'crypto'>,
  held: (userSeq: number) => Promise<HeldEvent | undefined>,
): Promise<number | undefined> {
  const { last_device_seq } = probe.established
  const last = await log.placeOf(ownDeviceId, last_device_seq)
  // Erased ones cannot be asked for. They stand where they stood when the newest one before them does.
  let userSeq = last
  let event = userSeq === undefined ? undefined : await held(userSeq)
  for (let deviceSeq = last_device_seq - 1; event?.record.body.type === 'expired'; deviceSeq--) {
    userSeq = await log.placeOf(ownDeviceId, deviceSeq)
    if (userSeq === undefined) return last
    event = await held(userSeq)
  }
  if (event === undefined || event.record.body.type !== 'stored') return undefined
  const receipt = await probe.askReceipt(event.record.body.wire)
  if (receipt === undefined) return undefined
  const [, streamSeq, storedAt, storedAtMs] = receipt
  const { record } = event
  const isThere = storedAt === userSeq && streamSeq === record.streamSeq && storedAtMs === record.storedAtMs
  return isThere ? last : undefined
}

/** Throws what a receiver stops for. */
function read(crypto: Crypto, item: StoredEvent | LeafItem): ReturnType<typeof readItem> {
  try {
    return readItem(crypto, item)
  } catch (error) {
    throw error instanceof Finding ? toError(error.failure) : error
  }
}

function identify(crypto: Crypto, { record: { body } }: HeldEvent) {
  if (body.type === 'expired') return body
  const event = parseEvent(body.wire)
  if (event === undefined) return undefined
  const { deviceId, deviceSeq } = event
  return { deviceId, deviceSeq, leaf: leafOf(crypto, event) }
}
