// The log does not hold what the cursor asks for; never a silent partial replay (DESIGN 5). After `retention` the replay
// goes on, with the leaves of what lies before `from`; after the other reasons it does not begin.

import { z } from 'zod'
import { counter } from './fields.ts'

export const resyncRequired = z.strictObject({
  type: z.literal('resync_required'),
  reason: z.enum(['retention', 'log_epoch_changed', 'cursor_beyond_head']),
  /** The first and the last user_seq that the log still holds the bytes of. */
  from: counter,
  to: counter,
})
export type ResyncRequired = z.infer<typeof resyncRequired>
