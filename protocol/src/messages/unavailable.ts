// The database is out of reach: nothing sent since is acknowledged; the sender keeps it and sends it again.

import { z } from 'zod'
import { counter } from './fields.ts'

export const unavailable = z.strictObject({ type: z.literal('unavailable'), retry_after_ms: counter })
