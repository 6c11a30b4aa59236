// What is sealed once more in the place of a sealed event: the same content again, or a tombstone (ORD-6).

import { type ChainPosition, type ErrorCode, toStreamId } from '@valise/protocol'
import type { EpochKeys } from '../account/epoch-keys.ts'
import { AlarmError } from '../alarm.ts'
import { openEvent } from '../sealing/event-seal.ts'
import type { LocalLog } from '../store/local-log.ts'
import type { Outbox } from './outbox.ts'
import type { SealedItem } from './own-chain.ts'
import type { Draft } from './sealing-run.ts'

export interface RedraftParts {
  readonly outbox: Pick<Outbox, 'get'>
  readonly log: Pick<LocalLog, 'anyStream'>
  readonly epochKeys: Pick<EpochKeys, 'contentKey'>
  /** The list of a checkpoint that is sealed now. */
  checkpointList(): readonly ChainPosition[] | undefined
}

/** The same event, to be sealed again. */
export async function redraft(
  { outbox, epochKeys, checkpointList }: RedraftParts,
  { position, streamName, eventId, event }: Pick<SealedItem, 'position' | 'streamName' | 'eventId' | 'event'>,
): Promise<Draft> {
  // A list of then may name what the server has lost since.
  const checkpoint = event.checkpoint === undefined ? undefined : checkpointList()
  const { streamId, ttlS, isKept } = event
  const kept = { position, streamName, streamId, eventId, ttlS, isKept, checkpoint }
  if (event.isTombstone) return { ...kept, content: undefined }
  if (position === undefined) {
    // It had its receipt once, and the server lost it: its content is in its own bytes.
    const key = epochKeys.contentKey(event.epoch)
    const content = key && openEvent(key, event)
    if (content === undefined) throw new AlarmError('store_damaged', { device_seq: event.deviceSeq })
    return { ...kept, content }
  }
  const item = await outbox.get(position)
  if (item === undefined) throw new AlarmError('store_damaged', { outbox: position })
  return { ...kept, content: item.content }
}

/** Throws the alarm for a tombstone that is refused itself. */
export function draftTombstone({ log }: RedraftParts, item: SealedItem, code: ErrorCode): Draft {
  if (item.event.isTombstone) throw new AlarmError('tombstone_refused', { device_seq: item.deviceSeq, code })
  // A stream that may not begin cannot hold the tombstone either.
  const known = code === 'stream_limit_reached' ? log.anyStream() : undefined
  const { streamId, isKept } = item.event
  const where = known === undefined ? streamId : (toStreamId(known) ?? streamId)
  const { streamName, eventId } = item
  const none = { position: undefined, content: undefined, checkpoint: undefined }
  return { ...none, streamName, streamId: where, eventId, ttlS: 0, isKept }
}
