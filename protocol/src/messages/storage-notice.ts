// Another device of the user has pushed as many bytes of the others out of the quota as it may in 24 hours (RET-8).

import { z } from 'zod'
import { counter, deviceId } from './fields.ts'

export const storageNotice = z.strictObject({
  type: z.literal('storage_notice'),
  device_id: deviceId,
  /** That limit: a tenth of the quota. */
  bytes: counter,
})
export type StorageNotice = z.infer<typeof storageNotice>
