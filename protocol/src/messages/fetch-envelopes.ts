// Asks for this device's boxes and the links between epochs, after an epoch; answered by one `envelopes` page.

import { z } from 'zod'
import { requestId, u32 } from './fields.ts'

export const fetchEnvelopes = z.strictObject({
  type: z.literal('fetch_envelopes'),
  request_id: requestId,
  after_epoch: u32,
})
export type FetchEnvelopes = z.infer<typeof fetchEnvelopes>
