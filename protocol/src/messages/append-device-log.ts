// Appends one signed entry to the device log, with the boxes and links that its EPOCH or `add` commits to. Compare-and-swap on the head.

import { z } from 'zod'
import { MAX_ACTIVE_DEVICES, MAX_BOX_BYTES, MAX_DEVICE_LOG_ENTRY_BYTES, MAX_EPOCH_LINKS } from '../limits.ts'
import { bytes, requestId, u32 } from './fields.ts'
import { sealedBox } from './register.ts'

/** The secret of the older epoch `prev_epoch`, sealed under that of the epoch which the entry starts. */
export const epochLink = z.strictObject({ prev_epoch: u32, box: bytes(1, MAX_BOX_BYTES) })
export type SealedLink = z.infer<typeof epochLink>

export const appendDeviceLog = z.strictObject({
  type: z.literal('append_device_log'),
  request_id: requestId,
  entry: bytes(1, MAX_DEVICE_LOG_ENTRY_BYTES),
  boxes: z.array(sealedBox).max(MAX_ACTIVE_DEVICES),
  /** Older epochs' secrets under the new one, in the order of EPOCH; none when the entry starts no epoch. */
  links: z.array(epochLink).max(MAX_EPOCH_LINKS),
})
export type AppendDeviceLog = z.infer<typeof appendDeviceLog>
