// Events in user_seq order, never the receiver's own (ORD-5). `through` is the user_seq up to which the receiver is
// complete once it has applied them: expired and own events leave holes.

import { z } from 'zod'
import { DEFAULT_LIMITS } from '../limits.ts'
import { bytes, counter, fixedBytes, u32 } from './fields.ts'

const flagsByte = z.int().min(0).max(255)

/** user_seq, stream_seq, stored_at (Unix milliseconds), the event as its device published it. */
export const storedEvent = z.tuple([counter, counter, counter, bytes(1, DEFAULT_LIMITS.max_frame)])

/**
 * An event whose bytes are gone: user_seq, stream_seq, stored_at, device_id, device_seq, ttl_s, flags, inner hash. The
 * chain still closes, and its leaf says whether the bytes may be missing.
 */
export const leafItem = z.tuple([counter, counter, counter, fixedBytes(16), counter, u32, flagsByte, fixedBytes(32)])

export const events = z.strictObject({
  type: z.literal('events'),
  events: z.array(z.union([storedEvent, leafItem])),
  through: counter,
  /** Of a page that was read from the log: the database's time, Unix milliseconds. */
  at: counter.optional(),
  /** Of such a page: the highest user_seq at that time. */
  head: counter.optional(),
})
export type StoredEvent = z.infer<typeof storedEvent>
export type LeafItem = z.infer<typeof leafItem>
export type Events = z.infer<typeof events>
