// The mailbox is open, and the number that whoever joins by a code types: the answer to `open_pairing`.

import { z } from 'zod'
import { counter, requestId, u32 } from './fields.ts'

export const pairingOpened = z.strictObject({
  type: z.literal('pairing_opened'),
  request_id: requestId,
  nameplate: u32,
  /** The time until nothing of it is left. */
  lifetime_ms: counter,
})
