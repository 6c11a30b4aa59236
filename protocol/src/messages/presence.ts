// Which of the user's other devices are online, and when each was last seen: all of them at first, then what changes.

import { z } from 'zod'
import { MAX_ACTIVE_DEVICES } from '../limits.ts'
import { counter, deviceId } from './fields.ts'

export const presence = z.strictObject({
  type: z.literal('presence'),
  /** True when devices that are not listed are offline and were never seen; false when only changes are listed. */
  is_snapshot: z.boolean(),
  devices: z
    .array(
      z.strictObject({
        device_id: deviceId,
        is_online: z.boolean(),
        /** Unix milliseconds; null when never seen. */
        last_seen_at: counter.nullable(),
      }),
    )
    .max(MAX_ACTIVE_DEVICES),
})
export type Presence = z.infer<typeof presence>
