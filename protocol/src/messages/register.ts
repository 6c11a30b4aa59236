// The first and only message of a session that registers: the genesis entry and the boxes it commits to (DEV-1).

import { z } from 'zod'
import { INVITATION_BYTES, MAX_BOX_BYTES, MAX_DEVICE_LOG_ENTRY_BYTES } from '../limits.ts'
import { bytes, deviceId, fixedBytes } from './fields.ts'

/** The content key of an epoch, sealed to one device (PROTOCOL D). */
export const sealedBox = z.strictObject({ device_id: deviceId, box: bytes(1, MAX_BOX_BYTES) })
export type SealedBox = z.infer<typeof sealedBox>

export const register = z.strictObject({
  type: z.literal('register'),
  entry: bytes(1, MAX_DEVICE_LOG_ENTRY_BYTES),
  boxes: z.array(sealedBox).min(1).max(2),
  /** Where a server wants one: 16 random bytes of which it keeps the hash (DEV-4). */
  invitation: fixedBytes(INVITATION_BYTES).optional(),
})
export type Register = z.infer<typeof register>
