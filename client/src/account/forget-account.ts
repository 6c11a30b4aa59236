// What a device keeps of an account that it no longer belongs to: after its revocation, who it was, and nothing that opens
// or proves anything. Keys, epoch secrets, what waited to be sent and the events themselves go in one batch.

import { type DeviceId, type DeviceLogState, findDevice, toDeviceId, toUserId, type UserId } from '@valise/protocol'
import { decode, encode } from 'cborg'
import { z } from 'zod'
import { AlarmError } from '../alarm.ts'
import { storeKeys } from '../store/layout.ts'
import { del, put, type Store, type StoreOperation } from '../store/store.ts'
import { type Identity, MAX_DEVICE_NAME_LENGTH } from './identity.ts'

const storedRevocation = z.strictObject({
  version: z.literal(1),
  user_id: z.custom<UserId>((value) => value instanceof Uint8Array && toUserId(value) !== undefined),
  device_id: z.custom<DeviceId>((value) => value instanceof Uint8Array && toDeviceId(value) !== undefined),
  name: z.string().max(MAX_DEVICE_NAME_LENGTH),
  server_url: z.string(),
  log_seq: z.int().min(0),
})

/** What is left of a device that was revoked. */
export interface RevokedDevice {
  readonly userId: UserId
  readonly deviceId: DeviceId
  readonly name: string
  readonly serverUrl: string
  /** Of the entry that revoked it. */
  readonly logSeq: number
}

const removeAll = async (store: Store): Promise<StoreOperation[]> => {
  const keys: string[] = []
  for await (const [key] of store.range({})) keys.push(key)
  return keys.map(del)
}

/** Removes what an earlier, unfinished setup left. */
export const forgetAccount = async (store: Store): Promise<void> => store.batch(await removeAll(store))

/** Called once the verified log says that the device was revoked. All or nothing; again after an interruption. */
export async function forgetRevoked(store: Store, identity: Identity, log: DeviceLogState): Promise<void> {
  const { userId, deviceId, name, server } = identity
  const status = findDevice(log, deviceId)?.status
  if (status?.type !== 'revoked') throw new Error('the device is not revoked')
  const left: z.infer<typeof storedRevocation> = {
    version: 1,
    user_id: userId,
    device_id: deviceId,
    name,
    server_url: server.url,
    log_seq: status.atSeq,
  }
  await store.batch([...(await removeAll(store)), put(storeKeys.revoked, encode(left))])
}

/** `undefined` unless the device of this store was revoked. */
export async function loadRevoked(store: Store): Promise<RevokedDevice | undefined> {
  const stored = await store.get(storeKeys.revoked)
  if (stored === undefined) return undefined
  const parsed = storedRevocation.safeParse(decode(stored))
  if (!parsed.success) throw new AlarmError('store_damaged', { record: storeKeys.revoked })
  const { user_id: userId, device_id: deviceId, name, server_url: serverUrl, log_seq: logSeq } = parsed.data
  return { userId, deviceId, name, serverUrl, logSeq }
}
