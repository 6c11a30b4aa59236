// The content of events that the server refused for good, kept sealed at rest until the user publishes it again or
// discards it (REF-2). It is charged to the outbox's limits: what waits and what is kept share them (REF-3).

import {
  createByteReader,
  createByteWriter,
  decodeUtf8,
  ERROR_CODES,
  type ErrorCode,
  type EventId,
  encodeUtf8,
  errorEntry,
  isSameId,
} from '@valise/protocol'
import { AlarmError } from '../alarm.ts'
import { createLane } from '../lane.ts'
import { parseContent } from '../sealing/content.ts'
import type { Pulse } from '../signal.ts'
import type { AtRestSealer } from '../store/at-rest.ts'
import { counterOf, keysUnder, storeKeys } from '../store/layout.ts'
import { del, put, type Store, type StoreOperation } from '../store/store.ts'
import { encodeOutboxItem, type OutboxItem, parseOutboxItem } from './outbox.ts'

/** An event whose content this device keeps because the server refused it. */
export interface RefusedEvent {
  readonly eventId: EventId
  readonly streamName: string
  /** Of its content; the application's type and time. */
  readonly type: string
  readonly atMs: number
  /** Bytes of the body. */
  readonly size: number
  readonly ttlS: number
  readonly code: ErrorCode
  /** Fit to show to a person. */
  readonly text: string
  /** Unix milliseconds by this device's clock. */
  readonly refusedAtMs: number
}

/** What an application sees of it. */
export interface RefusedEvents {
  readonly count: number
  /** As stored. */
  readonly bytes: number
  /** In the order of their refusals. */
  list(): Promise<RefusedEvent[]>
  /**
   * Publishes the content again as a new event, with its lifetime counted from the start; `undefined` when nothing is kept
   * under the id. Rejects with `PublishError`, and still keeps it.
   */
  retry(eventId: EventId): Promise<{ readonly eventId: EventId } | undefined>
  /** Erases the content; false when nothing is kept under the id. */
  discard(eventId: EventId): Promise<boolean>
}

export interface RefusedItem extends OutboxItem {
  readonly code: ErrorCode
}

export interface RefusedContent {
  readonly count: number
  readonly bytes: number
  list(): Promise<RefusedEvent[]>
  /** To be stored in the batch that puts tombstones in the places of these events; call `kept` after it. */
  keep(items: readonly RefusedItem[], atMs: number): { readonly operations: StoreOperation[]; kept(): void }
  /** Hands what is kept under the id to `move`, which stores the removal; false when nothing is. */
  take(eventId: EventId, move: (item: OutboxItem, removal: StoreOperation) => Promise<void>): Promise<boolean>
}

export interface RefusedContentParts {
  readonly store: Store
  readonly sealer: AtRestSealer
  /** Fires when there is room again. */
  readonly freed: Pulse
}

interface StoredRefusal {
  readonly item: OutboxItem
  readonly code: ErrorCode
  readonly refusedAtMs: number
}

export async function openRefusedContent({ store, sealer, freed }: RefusedContentParts): Promise<RefusedContent> {
  const sizeByPosition = new Map<number, number>()
  let bytes = 0
  let last = 0
  // One at a time: content that is being published again cannot be published twice.
  const lane = createLane()
  const note = (position: number, size: number): void => {
    sizeByPosition.set(position, size)
    bytes += size
    last = Math.max(last, position)
  }
  const forget = (position: number): void => {
    bytes -= sizeByPosition.get(position) ?? 0
    sizeByPosition.delete(position)
    freed.fire()
  }
  for await (const [key, value] of store.range(keysUnder('refused/'))) note(counterOf(key), value.length)

  async function* read(): AsyncGenerator<StoredRefusal & { readonly position: number }> {
    for await (const [key, sealed] of store.range(keysUnder('refused/'))) {
      yield { position: counterOf(key), ...parseRefusal(key, sealer.open(key, sealed)) }
    }
  }

  return {
    get count() {
      return sizeByPosition.size
    },
    get bytes() {
      return bytes
    },
    list: async () => {
      const events: RefusedEvent[] = []
      for await (const refusal of read()) events.push(describe(refusal))
      return events
    },
    keep: (items, atMs) => {
      const stored = items.map(({ code, ...item }, index) => {
        const position = last + 1 + index
        const key = storeKeys.refusedItem(position)
        return { position, key, sealed: sealer.seal(key, encodeRefusal({ item, code, refusedAtMs: atMs })) }
      })
      return {
        operations: stored.map(({ key, sealed }) => put(key, sealed)),
        kept: () => {
          for (const { position, sealed } of stored) note(position, sealed.length)
        },
      }
    },
    take: (eventId, move) =>
      lane.run(async () => {
        for await (const { position, item } of read()) {
          if (!isSameId(item.eventId, eventId)) continue
          await move(item, del(storeKeys.refusedItem(position)))
          forget(position)
          return true
        }
        return false
      }),
  }
}

function describe({ item, code, refusedAtMs }: StoredRefusal): RefusedEvent {
  const { eventId, streamName, ttlS, content } = item
  const parsed = parseContent(content)
  const { type, atMs, body } = parsed.type === 'content' ? parsed.content : { type: '', atMs: 0, body: content }
  const { text } = errorEntry(code)
  return { eventId, streamName, type, atMs, size: body.length, ttlS, code, text, refusedAtMs }
}

const encodeRefusal = ({ item, code, refusedAtMs }: StoredRefusal): Uint8Array =>
  createByteWriter().u64(refusedAtMs).prefixed(encodeUtf8(code)).prefixed(encodeOutboxItem(item)).finish()

function parseRefusal(key: string, bytes: Uint8Array): StoredRefusal {
  const reader = createByteReader(bytes)
  const refusedAtMs = reader.u64()
  const name = decodeUtf8(reader.prefixed(bytes.length))
  const item = reader.prefixed(bytes.length)
  const code = ERROR_CODES.find((known) => known === name)
  if (!reader.finish() || code === undefined) throw new AlarmError('store_damaged', { record: key })
  return { item: parseOutboxItem(key, item), code, refusedAtMs }
}
