// Liveness, both ways: a pong repeats the id of its ping. Neither counts as an event nor moves a session's clock (SES-2).

import { z } from 'zod'
import { u32 } from './fields.ts'

export const ping = z.strictObject({ type: z.literal('ping'), id: u32 })

export const pong = z.strictObject({ type: z.literal('pong'), id: u32 })
