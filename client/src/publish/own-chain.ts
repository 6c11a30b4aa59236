// This device's own chain and the events sealed on it that have no receipt yet, as its store keeps them. Sealed bytes
// are stored before they are first sent, so that after a crash the identical bytes go out again (PROTOCOL E).

import {
  type Crypto,
  chainAfter,
  chainStart,
  createByteReader,
  createByteWriter,
  type EventId,
  leafOf,
  type ParsedEvent,
  parseEvent,
} from '@valise/protocol'
import type { Identity } from '../account/identity.ts'
import { AlarmError } from '../alarm.ts'
import { keysUnder, storeKeys } from '../store/layout.ts'
import { del, put, type Store, type StoreOperation } from '../store/store.ts'

export interface SealedItem {
  readonly deviceSeq: number
  /** Of its plaintext in the outbox; a tombstone has none left, and neither has what had its receipt once. */
  readonly position: number | undefined
  readonly streamName: string
  readonly eventId: EventId
  readonly wire: Uint8Array
  readonly event: ParsedEvent
  /** After this event. */
  readonly chain: Uint8Array
}

export interface OwnChain {
  /** In device_seq order. */
  readonly unreceipted: readonly SealedItem[]
  /** The newest device_seq sealed, and the chain there. */
  readonly end: { readonly deviceSeq: number; readonly chain: Uint8Array }
  find(deviceSeq: number): SealedItem | undefined
  /** Stores newly sealed items, which follow or replace those from their first device_seq on. */
  save(items: readonly SealedItem[], also: readonly StoreOperation[]): Promise<void>
  /** To be stored with the event's receipt; call `receipted` after. */
  removal(deviceSeq: number): StoreOperation
  receipted(deviceSeq: number): void
}

export interface OwnChainParts {
  readonly store: Store
  readonly crypto: Crypto
  readonly identity: Pick<Identity, 'userId' | 'deviceId'>
}

/** Positions in the outbox begin at 1. */
const NO_POSITION = 0

/** As it is kept until its receipt. */
export const encodeSealedEvent = ({
  position,
  streamName,
  wire,
}: Pick<SealedItem, 'position' | 'streamName' | 'wire'>): Uint8Array =>
  createByteWriter()
    .u64(position ?? NO_POSITION)
    .prefixed(new TextEncoder().encode(streamName))
    .prefixed(wire)
    .finish()

function parseItem(crypto: Crypto, key: string, bytes: Uint8Array): SealedItem {
  const reader = createByteReader(bytes)
  const position = reader.u64()
  const streamName = new TextDecoder().decode(reader.prefixed(bytes.length))
  const wire = reader.prefixed(bytes.length)
  const event = parseEvent(wire)
  if (!reader.finish() || event === undefined) throw new AlarmError('store_damaged', { record: key })
  const chain = chainAfter(crypto, event.chainPrev, leafOf(crypto, event))
  const { deviceSeq, eventId } = event
  return {
    deviceSeq,
    position: position === NO_POSITION ? undefined : position,
    streamName,
    eventId,
    wire,
    event,
    chain,
  }
}

export async function openOwnChain({ store, crypto, identity }: OwnChainParts): Promise<OwnChain> {
  let unreceipted: SealedItem[] = []
  for await (const [key, value] of store.range(keysUnder('sealed/'))) unreceipted.push(parseItem(crypto, key, value))
  const stored = await store.get(storeKeys.ownChain)
  let end = { deviceSeq: 0, chain: chainStart(crypto, identity.userId, identity.deviceId) }
  if (stored !== undefined) {
    const reader = createByteReader(stored)
    end = { deviceSeq: reader.u64(), chain: reader.bytes(32) }
    if (!reader.finish()) throw new AlarmError('store_damaged', { record: storeKeys.ownChain })
  }
  return {
    get unreceipted() {
      return unreceipted
    },
    get end() {
      return end
    },
    find: (deviceSeq) => unreceipted.find((item) => item.deviceSeq === deviceSeq),
    save: async (items, also) => {
      const first = items[0]
      const last = items.at(-1)
      if (first === undefined || last === undefined) return
      const newEnd = { deviceSeq: last.deviceSeq, chain: last.chain }
      await store.batch([
        ...items.map((item) => put(storeKeys.sealedEvent(item.deviceSeq), encodeSealedEvent(item))),
        put(storeKeys.ownChain, createByteWriter().u64(newEnd.deviceSeq).bytes(newEnd.chain).finish()),
        ...also,
      ])
      end = newEnd
      unreceipted = [...unreceipted.filter((item) => item.deviceSeq < first.deviceSeq), ...items]
    },
    removal: (deviceSeq) => del(storeKeys.sealedEvent(deviceSeq)),
    receipted: (deviceSeq) => {
      unreceipted = unreceipted.filter((item) => item.deviceSeq !== deviceSeq)
    },
  }
}
