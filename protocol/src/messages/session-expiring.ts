// The session needs a full handshake soon (SES-2): a capable client makes the new session before this one ends.

import { z } from 'zod'
import { counter } from './fields.ts'

/** `expires_at` in Unix milliseconds by the server's clock. */
export const sessionExpiring = z.strictObject({ type: z.literal('session_expiring'), expires_at: counter })
