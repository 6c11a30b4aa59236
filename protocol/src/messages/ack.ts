// The receiver's cursor, cumulative: every event up to it is applied and stored with the cursor (P4).

import { z } from 'zod'
import { counter } from './fields.ts'

export const ack = z.strictObject({ type: z.literal('ack'), cursor: counter })
export type Ack = z.infer<typeof ack>
