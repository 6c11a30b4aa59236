// Asks for everything after a cursor: replay, then live (DESIGN 5). May be sent again to ask for a range anew.

import { z } from 'zod'
import { counter, fixedBytes } from './fields.ts'

export const resume = z.strictObject({
  type: z.literal('resume'),
  cursor: counter,
  /** The log epoch the cursor belongs to; null on a device that has seen none. */
  log_epoch: fixedBytes(16).nullable(),
})
export type Resume = z.infer<typeof resume>
