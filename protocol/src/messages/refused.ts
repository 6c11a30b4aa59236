// One published event was not stored, and why. `expected` is the device_seq that continues the log.

import { z } from 'zod'
import { ERROR_CODES } from '../errors.ts'
import { counter } from './fields.ts'

export const refused = z.strictObject({
  type: z.literal('refused'),
  /** As claimed by the event's header; 0 when it does not parse. */
  device_seq: counter,
  code: z.enum(ERROR_CODES),
  expected: counter.optional(),
  retry_after_ms: counter.optional(),
})
export type Refused = z.infer<typeof refused>
