// The account stands: the answer to `register`. The session goes on as one of the new device.

import { z } from 'zod'
import { counter, fixedBytes, u32, userId } from './fields.ts'

export const registered = z.strictObject({
  type: z.literal('registered'),
  user_id: userId,
  device_log_seq: counter,
  device_log_head: fixedBytes(32),
  key_epoch: u32,
})
export type Registered = z.infer<typeof registered>
