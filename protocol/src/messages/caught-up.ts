// Replay has reached the head as it stood then; what follows is live.

import { z } from 'zod'
import { counter } from './fields.ts'

export const caughtUp = z.strictObject({ type: z.literal('caught_up'), user_seq: counter })
export type CaughtUp = z.infer<typeof caughtUp>
