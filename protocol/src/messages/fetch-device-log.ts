// Asks for the device log after an entry; answered by one `device_log` page.

import { z } from 'zod'
import { counter, requestId } from './fields.ts'

export const fetchDeviceLog = z.strictObject({
  type: z.literal('fetch_device_log'),
  request_id: requestId,
  /** The seq of the last entry the asker has; null asks from genesis. */
  after_seq: counter.nullable(),
})
export type FetchDeviceLog = z.infer<typeof fetchDeviceLog>
