// Appends one signed entry to the device log, with the boxes its EPOCH or `add` commits to. Compare-and-swap on the head.

import { z } from 'zod'
import { MAX_ACTIVE_DEVICES, MAX_BOX_BYTES, MAX_DEVICE_LOG_ENTRY_BYTES } from '../limits.ts'
import { bytes, requestId } from './fields.ts'
import { sealedBox } from './register.ts'

export const appendDeviceLog = z.strictObject({
  type: z.literal('append_device_log'),
  request_id: requestId,
  entry: bytes(1, MAX_DEVICE_LOG_ENTRY_BYTES),
  boxes: z.array(sealedBox).max(MAX_ACTIVE_DEVICES),
  /** The older epoch's secret under the new one; null when the entry starts no epoch or links to none. */
  prev_box: bytes(1, MAX_BOX_BYTES).nullable(),
})
export type AppendDeviceLog = z.infer<typeof appendDeviceLog>
