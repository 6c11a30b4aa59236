// Own events whose bytes this device has erased cannot be sent again to a server that lost them. A tombstone takes the place
// of each, and the events behind it are sealed again, as after a refusal (ORD-6).

import {
  type ChainPosition,
  type Crypto,
  chainStart,
  createByteWriter,
  createEventId,
  type DeviceLogState,
  type EventId,
  parseEvent,
} from '@valise/protocol'
import type { EpochKeys } from '../account/epoch-keys.ts'
import type { Identity } from '../account/identity.ts'
import { PROFILE_STREAM } from '../account/profile.ts'
import { AlarmError } from '../alarm.ts'
import type { Outbox } from '../publish/outbox.ts'
import { encodeSealedEvent, type OwnChain, type SealedItem } from '../publish/own-chain.ts'
import { redraft } from '../publish/redraft.ts'
import { type ChainEnd, type Draft, sealRun } from '../publish/sealing-run.ts'
import { storeKeys } from '../store/layout.ts'
import type { LocalLog } from '../store/local-log.ts'
import { put, type StoreOperation } from '../store/store.ts'

/** An own event that the server lost; without `wire` its lifetime is over and its bytes are erased. */
export interface LostOwnEvent {
  readonly deviceSeq: number
  readonly streamName: string
  readonly wire: Uint8Array | undefined
}

export interface ResealParts {
  readonly crypto: Crypto
  readonly identity: Pick<Identity, 'userId' | 'deviceId' | 'keys'>
  readonly epochKeys: Pick<EpochKeys, 'contentKey' | 'streamId'>
  readonly outbox: Pick<Outbox, 'get'>
  readonly chain: Pick<OwnChain, 'unreceipted'>
  readonly log: Pick<LocalLog, 'anyStream' | 'chainAt'>
  readonly state: DeviceLogState
  readonly nowMs: number
  /** What a checkpoint that is sealed now names. */
  checkpointList(): readonly ChainPosition[] | undefined
}

/** Replaces what is kept of the run from the first erased event on; nothing when none is erased. `lost` is in order. */
export async function resealErased(parts: ResealParts, lost: readonly LostOwnEvent[]): Promise<StoreOperation[]> {
  const { crypto, identity, chain, log, state } = parts
  const first = lost.findIndex(({ wire }) => wire === undefined)
  const firstErased = lost[first]
  if (firstErased === undefined) return []
  const drafts: Draft[] = []
  for (const event of lost.slice(first)) drafts.push(await draftLost(parts, event))
  for (const item of chain.unreceipted) drafts.push(await redraft(parts, item))
  const before = firstErased.deviceSeq - 1
  const previous =
    before === 0 ? chainStart(crypto, identity.userId, identity.deviceId) : await log.chainAt(identity.deviceId, before)
  if (previous === undefined) throw new AlarmError('store_damaged', { device_seq: before })
  const end: ChainEnd = { deviceSeq: before, chain: previous }
  const sealed = await sealRun(parts, state, end, drafts)
  const last = sealed.at(-1)
  if (last === undefined) return []
  return [
    ...sealed.map((item) => put(storeKeys.sealedEvent(item.deviceSeq), encodeSealedEvent(item))),
    put(storeKeys.ownChain, createByteWriter().u64(last.deviceSeq).bytes(last.chain).finish()),
  ]
}

async function draftLost(parts: ResealParts, { deviceSeq, streamName, wire }: LostOwnEvent): Promise<Draft> {
  if (wire !== undefined) {
    const event = parseEvent(wire)
    if (event === undefined) throw new AlarmError('store_damaged', { device_seq: deviceSeq })
    const item: Pick<SealedItem, 'position' | 'streamName' | 'eventId' | 'event'> = {
      position: undefined,
      streamName,
      eventId: event.eventId,
      event,
    }
    return redraft(parts, item)
  }
  // Its stream is erased with it. One of the client's own is there on every device.
  const streamId = parts.epochKeys.streamId(PROFILE_STREAM)
  if (streamId === undefined) throw new Error('the secret of the first epoch is missing')
  const eventId: EventId = createEventId(parts.nowMs, parts.crypto.randomBytes(10))
  const none = { position: undefined, content: undefined, checkpoint: undefined }
  return { ...none, streamName: PROFILE_STREAM, streamId, eventId, ttlS: 0, isKept: true }
}
