// HPKE base mode, single shot (RFC 9180 §6.1), with the two KEMs that a device record may name, HKDF-SHA256 and
// AES-256-GCM. The sender's randomness is a part: the KEM derives its ephemeral keys from it.

import { Aes256Gcm, CipherSuite, DhkemX25519HkdfSha256, HkdfSha256 } from '@hpke/core'
import { XWing } from '@hpke/hybridkem-x-wing'
import { x25519 } from '@noble/curves/ed25519.js'
import { KEM_X_WING, KEM_X25519, type KemId } from '@valise/protocol'

/** Both KEMs have private keys of 32 bytes: an X-Wing decapsulation seed, an X25519 scalar. */
export const KEM_PRIVATE_KEY_BYTES = 32

interface Suite {
  readonly suite: CipherSuite
  /** What the KEM derives its ephemeral keys from. */
  readonly randomnessBytes: number
  derivePublicKey(privateKey: Uint8Array): Promise<Uint8Array>
}

const xWing = new XWing()

const suiteByKem: Record<KemId, Suite> = {
  [KEM_X_WING]: {
    suite: new CipherSuite({ kem: xWing, kdf: new HkdfSha256(), aead: new Aes256Gcm() }),
    randomnessBytes: 64,
    derivePublicKey: async (privateKey) => {
      // A copy: the library reads the whole buffer behind the view it is given.
      const pair = await xWing.generateKeyPairDerand(new Uint8Array(privateKey))
      return new Uint8Array(await xWing.serializePublicKey(pair.publicKey))
    },
  },
  [KEM_X25519]: {
    suite: new CipherSuite({ kem: new DhkemX25519HkdfSha256(), kdf: new HkdfSha256(), aead: new Aes256Gcm() }),
    randomnessBytes: 32,
    derivePublicKey: async (privateKey) => x25519.getPublicKey(privateKey),
  },
}

export const hpkeSuite = (kemId: KemId): CipherSuite => suiteByKem[kemId].suite

/** Bytes of randomness that `hpkeSeal` takes. */
export const hpkeRandomnessBytes = (kemId: KemId): number => suiteByKem[kemId].randomnessBytes

export const kemPublicKey = (kemId: KemId, privateKey: Uint8Array): Promise<Uint8Array> =>
  suiteByKem[kemId].derivePublicKey(privateKey)

export interface HpkeSealed {
  /** The encapsulated key. */
  readonly enc: Uint8Array
  readonly ciphertext: Uint8Array
}

export interface HpkeContext {
  readonly info: Uint8Array
  readonly associatedData: Uint8Array
}

/** Throws when the public key is none of its KEM: the device log has checked its length, not its meaning. */
export async function hpkeSeal(
  kemId: KemId,
  publicKey: Uint8Array,
  context: HpkeContext,
  plaintext: Uint8Array,
  randomness: Uint8Array,
): Promise<HpkeSealed> {
  const suite = hpkeSuite(kemId)
  const recipientPublicKey = await suite.kem.deserializePublicKey(new Uint8Array(publicKey))
  const params = { recipientPublicKey, info: new Uint8Array(context.info), ekm: new Uint8Array(randomness) }
  const { enc, ct } = await suite.seal(params, new Uint8Array(plaintext), new Uint8Array(context.associatedData))
  return { enc: new Uint8Array(enc), ciphertext: new Uint8Array(ct) }
}

/** `undefined` when it does not open, for whatever reason; never throws on what a peer sent. */
export async function hpkeOpen(
  kemId: KemId,
  privateKey: Uint8Array,
  context: HpkeContext,
  sealed: HpkeSealed,
): Promise<Uint8Array | undefined> {
  const suite = hpkeSuite(kemId)
  const recipientKey = await suite.kem.deserializePrivateKey(new Uint8Array(privateKey))
  const params = { recipientKey, info: new Uint8Array(context.info), enc: new Uint8Array(sealed.enc) }
  try {
    return new Uint8Array(
      await suite.open(params, new Uint8Array(sealed.ciphertext), new Uint8Array(context.associatedData)),
    )
  } catch {
    return undefined
  }
}
