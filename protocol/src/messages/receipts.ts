// Receipts of stored events, sent after the commit (P3). A retry gets the first receipt again, marked as duplicate (P4).

import { z } from 'zod'
import { counter } from './fields.ts'

/** device_seq, stream_seq, user_seq, stored_at (Unix milliseconds), whether it had been stored before. */
export const receipt = z.tuple([counter, counter, counter, counter, z.boolean()])
export type Receipt = z.infer<typeof receipt>

export const receipts = z.strictObject({ type: z.literal('receipts'), receipts: z.array(receipt).min(1) })
export type Receipts = z.infer<typeof receipts>
