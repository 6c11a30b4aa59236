// This node is stopping (SES-5): the client connects again, to another node, after the delay that was drawn for it.

import { z } from 'zod'
import { counter } from './fields.ts'

export const draining = z.strictObject({ type: z.literal('draining'), reconnect_after_ms: counter })
