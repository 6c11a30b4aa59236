// A session that reads again from before a hole (ORD-9): what this device holds already must be what it holds, and what
// it had been denied takes its own place. The chains say that nothing after it of the same device was ever applied.

import {
  type Crypto,
  type EventLeaf,
  type Events,
  equalBytes,
  formatUuid,
  leafHash,
  leafOf,
  parseEvent,
} from '@valise/protocol'
import { AlarmError } from '../alarm.ts'
import type { HeldEvent, LocalLog, LogChange } from '../store/local-log.ts'
import { type CheckedBatch, type KnownLog, readItem } from './check-events.ts'
import { Finding } from './check-rules.ts'

type Item = Events['events'][number]

/** The items that are news. Throws the alarm for one that is not what this device holds at its place. */
export async function dropHeld(
  { crypto, log }: { readonly crypto: Crypto; readonly log: LocalLog },
  items: readonly Item[],
): Promise<Item[]> {
  const news: Item[] = []
  for (const item of items) {
    const [userSeq] = item
    if (!log.isHeld(userSeq)) news.push(item)
    else {
      const [held] = await log.read(undefined, userSeq - 1, 1)
      if (held?.userSeq !== userSeq || !isSame(crypto, held, item)) {
        throw new AlarmError('history_changed', { user_seq: userSeq })
      }
    }
  }
  return news
}

function isSame(crypto: Crypto, { record }: HeldEvent, item: Item): boolean {
  const [, streamSeq, storedAtMs] = item
  if (record.streamSeq !== streamSeq || record.storedAtMs !== storedAtMs) return false
  const { deviceId, deviceSeq, leaf } = identify(crypto, item)
  const { body } = record
  const isSameLeaf = (own: EventLeaf): boolean => equalBytes(leafHash(crypto, own), leafHash(crypto, leaf))
  if (body.type === 'expired') {
    return body.deviceSeq === deviceSeq && equalBytes(body.deviceId, deviceId) && isSameLeaf(body.leaf)
  }
  const own = parseEvent(body.wire)
  return (
    own !== undefined &&
    own.deviceSeq === deviceSeq &&
    equalBytes(own.deviceId, deviceId) &&
    isSameLeaf(leafOf(crypto, own))
  )
}

function identify(crypto: Crypto, item: Item): ReturnType<typeof readItem> {
  try {
    return readItem(crypto, item)
  } catch (error) {
    if (!(error instanceof Finding) || error.failure.type !== 'alarm') throw error
    throw new AlarmError(error.failure.alarm.code, error.failure.alarm.detail)
  }
}

/** What late events are checked against: their devices' chains; their streams are looked at by `placeLate`. */
export const knownForLate = (known: KnownLog, first: number): KnownLog => ({
  ...known,
  progress: { ...known.progress, cursor: first - 1, lastHole: Number.MAX_SAFE_INTEGER, holes: [] },
  streamHead: () => undefined,
  ownAhead: () => [],
})

/** What is stored of late events that passed their checks. Throws the alarm for one whose place cannot be. */
export async function placeLate(log: LocalLog, batch: CheckedBatch): Promise<Omit<LogChange, 'also'>> {
  for (const { userSeq, streamSeq, deviceId, body } of batch.events) {
    const head = log.deviceHead(deviceId)
    if (head !== undefined && head.userSeq > userSeq) {
      throw new AlarmError('order_broken', { user_seq: userSeq, after: head.userSeq, device: formatUuid(deviceId) })
    }
    if (body.type !== 'stored') continue
    const { before, after } = await log.streamNeighbours(body.event.streamId, userSeq)
    const isAfter = before === undefined || before.streamSeq < streamSeq
    const isBefore = after === undefined || streamSeq < after.streamSeq
    if (!isAfter || !isBefore) {
      throw new AlarmError('stream_order_broken', { user_seq: userSeq, stream_seq: streamSeq })
    }
  }
  const streamHeads = [...batch.streamHeads.values()].filter(({ streamId, head }) => {
    return head.userSeq > (log.streamHead(streamId)?.userSeq ?? 0)
  })
  return { events: batch.events, progress: log.progress, deviceHeads: batch.deviceHeads.values(), streamHeads }
}
