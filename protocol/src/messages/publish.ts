// Sealed events in device_seq order (PROTOCOL E). Each is answered on its own, in `receipts` or `refused`.

import { z } from 'zod'
import { DEFAULT_LIMITS } from '../limits.ts'
import { bytes } from './fields.ts'

export const publish = z.strictObject({
  type: z.literal('publish'),
  events: z.array(bytes(1, DEFAULT_LIMITS.max_frame)).min(1).max(DEFAULT_LIMITS.max_batch_events),
})
export type Publish = z.infer<typeof publish>
