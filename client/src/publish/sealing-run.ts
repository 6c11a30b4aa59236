// Seals a run of events onto this device's chain under the epoch and the device log of the moment.

import {
  type ChainPosition,
  type Crypto,
  type DeviceLogState,
  type EventId,
  parseEvent,
  type StreamId,
} from '@valise/protocol'
import type { EpochKeys } from '../account/epoch-keys.ts'
import type { Identity } from '../account/identity.ts'
import { sealEvent } from '../sealing/event-seal.ts'
import type { SealedItem } from './own-chain.ts'

/** An event to be sealed; without content it is a tombstone. */
export interface Draft {
  readonly position: number | undefined
  readonly streamName: string
  readonly streamId: StreamId
  readonly eventId: EventId
  readonly ttlS: number
  readonly content: Uint8Array | undefined
  /** An event of the client's own. */
  readonly isKept: boolean
  /** The list of a checkpoint. */
  readonly checkpoint: readonly ChainPosition[] | undefined
}

export interface SealingParts {
  readonly crypto: Crypto
  readonly identity: Pick<Identity, 'userId' | 'deviceId' | 'keys'>
  readonly epochKeys: Pick<EpochKeys, 'contentKey'>
}

/** The end of the chain that the run continues. */
export interface ChainEnd {
  readonly deviceSeq: number
  readonly chain: Uint8Array
}

export async function sealRun(
  { crypto, identity, epochKeys }: SealingParts,
  log: DeviceLogState,
  end: ChainEnd,
  drafts: readonly Draft[],
): Promise<SealedItem[]> {
  const { userId, deviceId, keys } = identity
  const contentKey = epochKeys.contentKey(log.epoch.n)
  if (contentKey === undefined) throw new Error('the key of the current epoch is missing')
  const items: SealedItem[] = []
  let { deviceSeq, chain } = end
  for (const draft of drafts) {
    const { position, streamName, streamId, eventId, ttlS, content, isKept, checkpoint } = draft
    deviceSeq += 1
    const header = {
      userId,
      deviceId,
      deviceSeq,
      chainPrev: chain,
      streamId,
      eventId,
      epoch: log.epoch.n,
      logSeq: log.seq,
      logHead: log.head,
      ttlS,
      isTombstone: content === undefined,
      isKept,
      checkpoint,
    }
    const sealed = await sealEvent(crypto, keys.signer, contentKey, header, content ?? new Uint8Array(0))
    const event = parseEvent(sealed.wire)
    if (event === undefined) throw new Error('an event that was just sealed does not parse')
    chain = sealed.chain
    items.push({ deviceSeq, position, streamName, eventId, wire: sealed.wire, event, chain })
  }
  return items
}
