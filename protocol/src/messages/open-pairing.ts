// Opens a mailbox for pairing another device with this user's (PROTOCOL F); answered by `pairing_opened`.

import { z } from 'zod'
import { fixedBytes, requestId } from './fields.ts'

export const openPairing = z.strictObject({
  type: z.literal('open_pairing'),
  request_id: requestId,
  /** Random, made by the device. */
  mailbox_id: fixedBytes(16),
  /** Proves the displaying device's seat in later requests. */
  seat_key: fixedBytes(16),
})
export type OpenPairing = z.infer<typeof openPairing>
