// A box: the secret of one key epoch, sealed to one device (PROTOCOL D). It is bound to user, epoch, device and the
// place in the device log where it is committed to, so that no box can be served in place of another. Its randomness is
// derived from the secret it seals, so every device that has the secret computes the same box (DEV-16).

import {
  type Crypto,
  createByteReader,
  createByteWriter,
  type DeviceId,
  type DeviceRecord,
  encodeUtf8,
  type KemId,
  kdf,
  MAX_BOX_BYTES,
  type UserId,
} from '@valise/protocol'
import { type HpkeContext, hpkeOpen, hpkeRandomnessBytes, hpkeSeal } from './hpke.ts'

/** What a box is bound to. */
export interface BoxPlace {
  /** Zero in genesis. */
  readonly userId: UserId
  readonly epochN: number
  readonly deviceId: DeviceId
  /** The head of the device log before the entry that commits to the box; zero in genesis. */
  readonly logHead: Uint8Array
}

const INFO_LABEL = encodeUtf8('valise epoch-box\0')

const hpkeContext = (place: BoxPlace): HpkeContext => ({
  info: createByteWriter().bytes(INFO_LABEL).bytes(place.userId).u32(place.epochN).bytes(place.deviceId).finish(),
  associatedData: place.logHead,
})

/** The box of a device whose key takes none: a fixed byte, so that such a device stops no epoch and frames no signer. */
const NO_BOX = Uint8Array.of(0)

/** LP(enc) | LP(ct); the same for the same secret and place. */
export async function sealBox(
  crypto: Crypto,
  record: DeviceRecord,
  place: BoxPlace,
  epochSecret: Uint8Array,
): Promise<Uint8Array> {
  const { kemId, kemPub } = record
  const seedContext = createByteWriter().bytes(place.deviceId).bytes(place.logHead).finish()
  const randomness = kdf(crypto, epochSecret, 'box seed', seedContext, hpkeRandomnessBytes(kemId))
  try {
    const { enc, ciphertext } = await hpkeSeal(kemId, kemPub, hpkeContext(place), epochSecret, randomness)
    return createByteWriter().prefixed(enc).prefixed(ciphertext).finish()
  } catch {
    // The device log checks the length of a key, not that it is one.
    return NO_BOX
  } finally {
    randomness.fill(0)
  }
}

/** `undefined` when the box does not parse or does not open. */
export async function openBox(
  kem: { readonly kemId: KemId; readonly privateKey: Uint8Array },
  place: BoxPlace,
  box: Uint8Array,
): Promise<Uint8Array | undefined> {
  const reader = createByteReader(box)
  const enc = reader.prefixed(MAX_BOX_BYTES)
  const ciphertext = reader.prefixed(MAX_BOX_BYTES)
  if (!reader.finish()) return undefined
  return hpkeOpen(kem.kemId, kem.privateKey, hpkeContext(place), { enc, ciphertext })
}
