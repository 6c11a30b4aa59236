// Who this device is, as its store keeps it (sealed at rest): its keys, its user, its server. The device log says the rest.

import {
  type Crypto,
  type DeviceId,
  KEM_X_WING,
  KEM_X25519,
  type ServerKeyPin,
  toUserId,
  type UserId,
} from '@valise/protocol'
import { decode, encode } from 'cborg'
import { z } from 'zod'
import { AlarmError } from '../alarm.ts'
import { type DeviceKeys, type DeviceSecrets, restoreDeviceKeys } from '../sealing/device-keys.ts'
import type { AtRestSealer } from '../store/at-rest.ts'
import { storeKeys } from '../store/layout.ts'
import { put, type Store, type StoreOperation } from '../store/store.ts'

export const MAX_DEVICE_NAME_LENGTH = 64
export const MAX_PLATFORM_LENGTH = 64

export interface Identity {
  readonly userId: UserId
  readonly deviceId: DeviceId
  readonly keys: DeviceKeys
  readonly name: string
  readonly platform: string
  readonly server: ServerPin
}

/** Where the server is and which identity key it must prove. */
export interface ServerPin extends ServerKeyPin {
  readonly url: string
}

const bytes = (length: number) =>
  z.custom<Uint8Array>((value) => value instanceof Uint8Array && value.length === length)

const storedIdentity = z.strictObject({
  version: z.literal(1),
  user_id: z.custom<UserId>((value) => value instanceof Uint8Array && toUserId(value) !== undefined),
  sign_seed: bytes(32),
  kem_id: z.union([z.literal(KEM_X_WING), z.literal(KEM_X25519)]),
  kem_private_key: bytes(32),
  name: z.string().max(MAX_DEVICE_NAME_LENGTH),
  platform: z.string().max(MAX_PLATFORM_LENGTH),
  server_url: z.string(),
  server_fingerprint: bytes(32),
  server_next_fingerprint: bytes(32).nullable(),
})

/** The identity of a device that belongs to its user, or of one that has asked to and waits for the answer. */
export type IdentityKey = typeof storeKeys.identity | typeof storeKeys.joining

export function saveIdentity(
  sealer: AtRestSealer,
  identity: Omit<Identity, 'deviceId'>,
  key: IdentityKey = storeKeys.identity,
): StoreOperation {
  const { userId, keys, name, platform, server } = identity
  const { signSeed, kemId, kemPrivateKey }: DeviceSecrets = keys.secrets
  const stored: z.infer<typeof storedIdentity> = {
    version: 1,
    user_id: userId,
    sign_seed: signSeed,
    kem_id: kemId,
    kem_private_key: kemPrivateKey,
    name,
    platform,
    server_url: server.url,
    server_fingerprint: server.fingerprint,
    server_next_fingerprint: server.nextFingerprint ?? null,
  }
  return put(key, sealer.seal(key, encode(stored)))
}

/** `undefined` on a device that belongs to no user yet. */
export async function loadIdentity(
  crypto: Crypto,
  store: Store,
  sealer: AtRestSealer,
  key: IdentityKey = storeKeys.identity,
): Promise<Identity | undefined> {
  const sealed = await store.get(key)
  if (sealed === undefined) return undefined
  const parsed = storedIdentity.safeParse(decode(sealer.open(key, sealed)))
  if (!parsed.success) throw new AlarmError('store_damaged', { record: key })
  const stored = parsed.data
  const secrets = { signSeed: stored.sign_seed, kemId: stored.kem_id, kemPrivateKey: stored.kem_private_key }
  // The role in the keys' own record is never used: the device log says which role the device has now.
  const keys = await restoreDeviceKeys(crypto, secrets, 'member')
  return {
    userId: stored.user_id,
    deviceId: keys.deviceId,
    keys,
    name: stored.name,
    platform: stored.platform,
    server: {
      url: stored.server_url,
      fingerprint: stored.server_fingerprint,
      nextFingerprint: stored.server_next_fingerprint ?? undefined,
    },
  }
}
