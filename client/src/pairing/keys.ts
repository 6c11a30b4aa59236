// From the key that CPace yields to everything a pairing uses: the two confirmations, a key a direction, and the four
// digits that people compare. All of it is bound to the mailbox, both shares and both roles.

import { type Crypto, createByteWriter, encodeUtf8, hkdfExtract, kdf } from '@valise/protocol'
import { type CpaceShare, cpaceSessionKey } from './cpace.ts'
import type { PairingPart } from './offer.ts'

/** Who joins starts the exchange, who displays answers. */
export type Seat = 'initiator' | 'responder'

export const otherSeat = (seat: Seat): Seat => (seat === 'initiator' ? 'responder' : 'initiator')

/** CI: this purpose, this server. */
export const channelIdentifier = (serverFingerprint: Uint8Array): Uint8Array =>
  createByteWriter().prefixed(encodeUtf8('valise pair')).prefixed(serverFingerprint).finish()

/** What a party says of itself, in both shares' associated data. */
export const associatedDataOf = (seat: Seat, part: PairingPart): Uint8Array =>
  encodeUtf8((seat === 'initiator' ? 'I' : 'R') + (part === 'new' ? 'n' : 'e'))

export interface PairingKeys {
  /** HMACs over the transcript: of who joins, and of who displays. */
  readonly confirmations: Readonly<Record<Seat, Uint8Array>>
  /** AES-256 keys by sender. */
  readonly sealing: Readonly<Record<Seat, Uint8Array>>
  /** Four digits. */
  readonly check: string
}

const CHECK_RANGE = 10_000

export function derivePairingKeys(
  crypto: Crypto,
  mailboxId: Uint8Array,
  sharedPoint: Uint8Array,
  { initiator, responder }: Readonly<Record<Seat, CpaceShare>>,
): PairingKeys {
  const sessionKey = cpaceSessionKey(mailboxId, sharedPoint, initiator, responder)
  const transcript = crypto.sha256(
    createByteWriter()
      .prefixed(mailboxId)
      .prefixed(initiator.share)
      .prefixed(initiator.associatedData)
      .prefixed(responder.share)
      .prefixed(responder.associatedData)
      .finish(),
  )
  const root = hkdfExtract(crypto, new Uint8Array(32), sessionKey)
  sessionKey.fill(0)
  const derive = (label: string): Uint8Array => kdf(crypto, root, label, transcript)
  const confirm = (label: string): Uint8Array => crypto.hmacSha256(derive(label), transcript)
  const check = derive('check')
  const keys = {
    confirmations: { initiator: confirm('conf i'), responder: confirm('conf r') },
    sealing: { initiator: derive('pair i2r'), responder: derive('pair r2i') },
    check: String(new DataView(check.buffer, check.byteOffset, 4).getUint32(0) % CHECK_RANGE).padStart(4, '0'),
  }
  root.fill(0)
  return keys
}

/** u96. A key seals at most four messages. */
const nonceOf = (counter: number): Uint8Array => createByteWriter().u32(0).u64(counter).finish()

const associatedDataOfMessage = (slot: number): Uint8Array => Uint8Array.of(slot)

/** `counter`: how many messages this key has sealed before. `slot`: the message's number in the mailbox. */
export const sealMessage = (crypto: Crypto, key: Uint8Array, counter: number, slot: number, body: Uint8Array) =>
  crypto.createAead(key).seal(nonceOf(counter), associatedDataOfMessage(slot), body)

/** `undefined` for anything but the sender's message of this number. */
export const openMessage = (crypto: Crypto, key: Uint8Array, counter: number, slot: number, sealed: Uint8Array) =>
  crypto.createAead(key).open(nonceOf(counter), associatedDataOfMessage(slot), sealed)
