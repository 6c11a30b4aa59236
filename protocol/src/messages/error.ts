// A message was refused; the session goes on. `field` and `rule` say where, never what the value was.

import { z } from 'zod'
import { ERROR_CODES } from '../errors.ts'
import { counter, requestId } from './fields.ts'

export const error = z.strictObject({
  type: z.literal('error'),
  code: z.enum(ERROR_CODES),
  request_id: requestId.optional(),
  field: z.string().max(64).optional(),
  rule: z.string().max(64).optional(),
  retry_after_ms: counter.optional(),
})
export type ErrorMessage = z.infer<typeof error>
