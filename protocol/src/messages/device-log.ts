// A page of the device log: the answer to `fetch_device_log`, or, with a null request, word of new entries.

import { z } from 'zod'
import { MAX_DEVICE_LOG_ENTRY_BYTES, MAX_DEVICE_LOG_PAGE } from '../limits.ts'
import { bytes, counter, requestId } from './fields.ts'

export const deviceLog = z.strictObject({
  type: z.literal('device_log'),
  request_id: requestId.nullable(),
  entries: z.array(bytes(1, MAX_DEVICE_LOG_ENTRY_BYTES)).max(MAX_DEVICE_LOG_PAGE),
  /** The seq of the newest entry; more pages follow while it is ahead of the last entry here. */
  head_seq: counter,
})
export type DeviceLogPage = z.infer<typeof deviceLog>
