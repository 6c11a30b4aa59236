// The outbox: what the application published and no receipt has confirmed, as plaintext sealed at rest, in order.
// Bounded in events and bytes; whoever publishes into a full one waits. An item leaves only by a receipt or a refusal.
// What is kept of refused events counts too: a publisher for whom it leaves no room is refused (REF-3).

import { createByteReader, createByteWriter, decodeUtf8, type EventId, encodeUtf8, toEventId } from '@valise/protocol'
import { AlarmError } from '../alarm.ts'
import { createLane } from '../lane.ts'
import { createPulse, type Pulse } from '../signal.ts'
import type { AtRestSealer } from '../store/at-rest.ts'
import { counterOf, keysUnder, storeKeys } from '../store/layout.ts'
import { del, put, type Store, type StoreOperation } from '../store/store.ts'
import { PublishError } from './publish-error.ts'

export interface OutboxItem {
  readonly eventId: EventId
  readonly streamName: string
  readonly ttlS: number
  /** The content as it will stand inside the event. */
  readonly content: Uint8Array
}

export interface WaitingItem extends OutboxItem {
  readonly position: number
}

export interface OutboxLimits {
  readonly maxEvents: number
  readonly maxBytes: number
}

export const DEFAULT_OUTBOX_LIMITS: OutboxLimits = { maxEvents: 10_000, maxBytes: 64 * 1024 * 1024 }

export interface Outbox {
  /**
   * Resolves when the item is durable, and `also` in the same batch; waits while the outbox is full; rejects with the
   * signal's reason, and with a `PublishError` when refused content leaves no room.
   */
  add(item: OutboxItem, signal?: AbortSignal, also?: readonly StoreOperation[]): Promise<void>
  /** For what has its room already, and the few items that the client publishes by itself: never waits for room. */
  addAtOnce(item: OutboxItem, also?: readonly StoreOperation[]): Promise<void>
  /** Nothing will leave it any more: whoever waits for room, now or later, is rejected with the reason. */
  giveUp(reason: Error): void
  /** Items after a position, in order, at most so many and so many bytes of content but at least one if there is one. */
  read(after: number, maxEvents: number, maxBytes: number): Promise<WaitingItem[]>
  get(position: number): Promise<WaitingItem | undefined>
  /** To be made part of the batch that settles the item; call `settled` after that batch. */
  removal(position: number): StoreOperation
  settled(position: number): void
  readonly count: number
  readonly bytes: number
  /** The position of the newest item. */
  readonly last: number
}

/** What else is charged to the limits of the outbox. */
export interface KeptContent {
  readonly count: number
  readonly bytes: number
}

export interface OutboxParts {
  readonly store: Store
  readonly sealer: AtRestSealer
  readonly limits: OutboxLimits
  readonly kept?: KeptContent
  /** Fires when there is room again. */
  readonly freed?: Pulse
}

const NOTHING_KEPT: KeptContent = { count: 0, bytes: 0 }

export async function openOutbox({
  store,
  sealer,
  limits,
  kept = NOTHING_KEPT,
  freed = createPulse(),
}: OutboxParts): Promise<Outbox> {
  const sizeByPosition = new Map<number, number>()
  let bytes = 0
  let last = 0
  let reasonToGiveUp: Error | undefined
  // Publishers are admitted one by one, so a small item never overtakes a large one that waits for room.
  const admission = createLane()
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
  for await (const [key, value] of store.range(keysUnder('outbox/'))) note(counterOf(key), value.length)

  // Items added while a batch is on its way to the disk share the next one.
  let pending: {
    readonly position: number
    readonly operations: readonly StoreOperation[]
    readonly resolve: () => void
    readonly reject: (error: unknown) => void
  }[] = []
  let isWriting = false
  const write = async (): Promise<void> => {
    isWriting = true
    while (pending.length > 0) {
      const batch = pending
      pending = []
      try {
        await store.batch(batch.flatMap(({ operations }) => operations))
        for (const { resolve } of batch) resolve()
      } catch (error) {
        for (const { position, reject } of batch) {
          forget(position)
          reject(error)
        }
      }
    }
    isWriting = false
  }

  const append = (plaintext: Uint8Array, also: readonly StoreOperation[] = []): Promise<void> => {
    const position = last + 1
    const key = storeKeys.outboxItem(position)
    const sealed = sealer.seal(key, plaintext)
    note(position, sealed.length)
    return new Promise((resolve, reject) => {
      pending.push({ position, operations: [put(key, sealed), ...also], resolve, reject })
      if (!isWriting) void write()
    })
  }

  const open = (position: number, value: Uint8Array): WaitingItem => {
    const key = storeKeys.outboxItem(position)
    return { ...parseOutboxItem(key, sealer.open(key, value)), position }
  }

  return {
    add: async (item, signal, also) => {
      const plaintext = encodeOutboxItem(item)
      const hasRoom = (): boolean =>
        (sizeByPosition.size === 0 && kept.count === 0) ||
        (sizeByPosition.size + kept.count < limits.maxEvents &&
          bytes + kept.bytes + plaintext.length <= limits.maxBytes)
      /** Receipts free nothing of it, so waiting would have no end. */
      const isFullOfKept = (): boolean =>
        kept.count > 0 && (kept.count >= limits.maxEvents || kept.bytes + plaintext.length > limits.maxBytes)
      let isAdmitted = false
      const admitted = admission.run(async () => {
        while (!hasRoom()) {
          if (reasonToGiveUp !== undefined) throw reasonToGiveUp
          if (isFullOfKept()) throw fullOfKept(kept)
          await freed.next(signal)
        }
        signal?.throwIfAborted()
        isAdmitted = true
        return { written: append(plaintext, also) }
      })
      // Whoever gives up need not wait for those before him to be admitted.
      const { written } = await orAbort(admitted, signal, () => isAdmitted)
      await written
    },
    addAtOnce: (item, also) => append(encodeOutboxItem(item), also),
    giveUp: (reason) => {
      reasonToGiveUp = reason
      freed.fire()
    },
    read: async (after, maxEvents, maxBytes) => {
      const items: WaitingItem[] = []
      let readBytes = 0
      for await (const [key, value] of store.range({ ...keysUnder('outbox/'), gt: storeKeys.outboxItem(after) })) {
        if (items.length >= maxEvents || (items.length > 0 && readBytes + value.length > maxBytes)) break
        readBytes += value.length
        items.push(open(counterOf(key), value))
      }
      return items
    },
    get: async (position) => {
      const value = await store.get(storeKeys.outboxItem(position))
      return value === undefined ? undefined : open(position, value)
    },
    removal: (position) => del(storeKeys.outboxItem(position)),
    settled: forget,
    get count() {
      return sizeByPosition.size
    },
    get bytes() {
      return bytes
    },
    get last() {
      return last
    },
  }
}

const fullOfKept = ({ count, bytes }: KeptContent): PublishError =>
  new PublishError(
    'refused_content_full',
    `The server refused ${count} events, and their content (${bytes} bytes) fills the outbox. Publish it again or discard it first: \`valise refused list\`.`,
  )

/** The task's outcome, or at once the signal's reason while the task is not beyond recall. */
function orAbort<Result>(
  task: Promise<Result>,
  signal: AbortSignal | undefined,
  isBeyondRecall: () => boolean,
): Promise<Result> {
  if (signal === undefined) return task
  return new Promise((resolve, reject) => {
    const giveUp = (): void => {
      if (!isBeyondRecall()) reject(signal.reason)
    }
    const settled = (): void => signal.removeEventListener('abort', giveUp)
    task.then(resolve, reject).finally(settled)
    signal.addEventListener('abort', giveUp)
    if (signal.aborted) giveUp()
  })
}

export function encodeOutboxItem({ eventId, streamName, ttlS, content }: OutboxItem): Uint8Array {
  return createByteWriter().bytes(eventId).u32(ttlS).prefixed(encodeUtf8(streamName)).prefixed(content).finish()
}

export function parseOutboxItem(key: string, bytes: Uint8Array): OutboxItem {
  const reader = createByteReader(bytes)
  const eventId = toEventId(reader.bytes(16))
  const ttlS = reader.u32()
  const streamName = decodeUtf8(reader.prefixed(bytes.length))
  const content = reader.prefixed(bytes.length)
  if (!reader.finish() || eventId === undefined || streamName === undefined) {
    throw new AlarmError('store_damaged', { record: key })
  }
  return { eventId, streamName, ttlS, content }
}
