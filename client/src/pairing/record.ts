// All that a device keeps of a pairing under way, so that it goes on after the end of its process. Sealed at rest by who
// stores it, and gone with the pairing, or after ten minutes.

import { KEM_X_WING, KEM_X25519 } from '@valise/protocol'
import { decode, encode } from 'cborg'
import { z } from 'zod'
import { ceremonyState } from './ceremony-state.ts'
import { MAILBOX_ID_BYTES, OFFER_SECRET_BYTES } from './offer.ts'

const bytes = (length: number) =>
  z.custom<Uint8Array>((value) => value instanceof Uint8Array && value.length === length)

const newDevice = z.strictObject({
  name: z.string(),
  platform: z.string(),
  signSeed: bytes(32),
  kemId: z.union([z.literal(KEM_X_WING), z.literal(KEM_X25519)]),
  kemPrivateKey: bytes(32),
})

const common = {
  version: z.literal(1),
  part: z.enum(['existing', 'new']),
  /** Unix milliseconds by this device's clock. */
  endsAtMs: z.int().min(0),
  seatKey: bytes(16),
  server: z.strictObject({ url: z.string(), fingerprint: bytes(32), nextFingerprint: bytes(32).optional() }),
  newDevice: newDevice.optional(),
  /** How many codes this device has shown before this one, each of which was spoiled. */
  renewals: z.int().min(0),
  /** The hash of what was scanned or typed, on the device that joins. */
  offerHash: bytes(32).optional(),
}

const pairingRecord = z.discriminatedUnion('stage', [
  /** A mailbox is to be opened: it may be already. */
  z.strictObject({
    ...common,
    stage: z.literal('opening'),
    mailboxId: bytes(MAILBOX_ID_BYTES),
    secret: bytes(OFFER_SECRET_BYTES),
    digits: z.string(),
  }),
  /** The joiner's seat is to be taken: it may be already. */
  z.strictObject({ ...common, stage: z.literal('joining'), offer: z.string() }),
  z.strictObject({
    ...common,
    stage: z.literal('running'),
    state: ceremonyState,
    /** On the device that displays, while it waits for the other. */
    shown: z.strictObject({ url: z.string(), code: z.string() }).optional(),
  }),
])
export type PairingRecord = z.infer<typeof pairingRecord>
export type RecordAt<Stage extends PairingRecord['stage']> = Extract<PairingRecord, { stage: Stage }>

/** Without the fields that are not there. */
export const encodePairingRecord = (record: PairingRecord): Uint8Array =>
  encode(Object.fromEntries(Object.entries(record).filter(([, value]) => value !== undefined)))

/** `undefined` for anything that is no record. */
export function parsePairingRecord(encoded: Uint8Array): PairingRecord | undefined {
  try {
    return pairingRecord.safeParse(decode(encoded)).data
  } catch {
    return undefined
  }
}

/** Where the record of this device is kept: at most one. */
export interface PairingKeeper {
  load(): Promise<Uint8Array | undefined>
  /** Durable when it resolves. */
  save(record: Uint8Array): Promise<void>
  forget(): Promise<void>
}
