// The keys of one device: an Ed25519 seed and a KEM private key, made on the device and kept by it (DEV-1), with the
// record and the id that the device log knows it by. Whoever stores the secrets protects them at rest.

import {
  type Crypto,
  type DeviceId,
  type DeviceRecord,
  type DeviceRole,
  deviceIdOf,
  KEM_X_WING,
  type KemId,
  type Signer,
} from '@valise/protocol'
import { KEM_PRIVATE_KEY_BYTES, kemPublicKey } from './hpke.ts'

export const SIGN_SEED_BYTES = 32

export interface DeviceSecrets {
  readonly signSeed: Uint8Array
  readonly kemId: KemId
  readonly kemPrivateKey: Uint8Array
}

export interface DeviceKeys {
  readonly secrets: DeviceSecrets
  readonly signer: Signer
  readonly record: DeviceRecord
  readonly deviceId: DeviceId
}

/** The keys again, from secrets made before. `role` is the one the record is to bear. */
export async function restoreDeviceKeys(crypto: Crypto, secrets: DeviceSecrets, role: DeviceRole): Promise<DeviceKeys> {
  const { signSeed, kemId, kemPrivateKey } = secrets
  const signer = crypto.createSigner(signSeed)
  const record = { role, edPub: signer.publicKey, kemId, kemPub: await kemPublicKey(kemId, kemPrivateKey) }
  return { secrets, signer, record, deviceId: deviceIdOf(crypto, record) }
}

/** X-Wing unless said otherwise: boxes are stored, and what is stored can be harvested. */
export const createDeviceKeys = (crypto: Crypto, role: DeviceRole, kemId: KemId = KEM_X_WING): Promise<DeviceKeys> => {
  const signSeed = crypto.randomBytes(SIGN_SEED_BYTES)
  const kemPrivateKey = crypto.randomBytes(KEM_PRIVATE_KEY_BYTES)
  return restoreDeviceKeys(crypto, { signSeed, kemId, kemPrivateKey }, role)
}
