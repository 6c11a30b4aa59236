// The entry stands in the device log: the answer to `append_device_log`.

import { z } from 'zod'
import { counter, requestId } from './fields.ts'

export const deviceLogAppended = z.strictObject({
  type: z.literal('device_log_appended'),
  request_id: requestId,
  seq: counter,
})
