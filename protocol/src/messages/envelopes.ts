// This device's boxes and the links between epochs, by epoch (PROTOCOL D).

import { z } from 'zod'
import { MAX_BOX_BYTES } from '../limits.ts'
import { bytes, requestId, u32 } from './fields.ts'

export const envelopes = z.strictObject({
  type: z.literal('envelopes'),
  request_id: requestId,
  boxes: z.array(z.strictObject({ epoch: u32, box: bytes(1, MAX_BOX_BYTES) })),
  /** Those of one epoch newest first. */
  links: z.array(z.strictObject({ epoch: u32, prev_epoch: u32, box: bytes(1, MAX_BOX_BYTES) })),
  /** False when a further page follows the last epoch here. */
  is_last: z.boolean(),
})
export type Envelopes = z.infer<typeof envelopes>
