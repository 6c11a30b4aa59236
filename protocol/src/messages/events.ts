// Events in user_seq order, never the receiver's own (ORD-5). `through` is the user_seq up to which the receiver is
// complete once it has applied them: expired and own events leave holes.

import { z } from 'zod'
import { DEFAULT_LIMITS } from '../limits.ts'
import { bytes, counter, fixedBytes } from './fields.ts'

/** user_seq, stream_seq, stored_at (Unix milliseconds), the event as its device published it. */
export const storedEvent = z.tuple([counter, counter, counter, bytes(1, DEFAULT_LIMITS.max_frame)])

/** An event whose bytes expired: user_seq, stream_seq, stored_at, device_id, device_seq, leaf. The chain still closes. */
export const expiredEvent = z.tuple([counter, counter, counter, fixedBytes(16), counter, fixedBytes(32)])

export const events = z.strictObject({
  type: z.literal('events'),
  events: z.array(z.union([storedEvent, expiredEvent])),
  through: counter,
})
export type StoredEvent = z.infer<typeof storedEvent>
export type ExpiredEvent = z.infer<typeof expiredEvent>
export type Events = z.infer<typeof events>
