// The first steps of a pairing, each stored before it is taken: a mailbox is opened under a secret made here, or the
// joiner's seat is taken in one. Begun again after an interruption, the same mailbox and the same seat are found.

import { type Crypto, encodeUtf8, equalBytes } from '@valise/protocol'
import { SetupError } from '../account/setup-error.ts'
import type { Clock } from '../clock.ts'
import { joinPairing, offerPairing, PAIRING_LIFETIME_MS } from './ceremony.ts'
import {
  CODE_EXAMPLE,
  canonicalOffer,
  createCodeDigits,
  formatCodeOffer,
  formatQrOffer,
  MAILBOX_ID_BYTES,
  MAX_NAMEPLATE,
  MIN_NAMEPLATE,
  OFFER_SECRET_BYTES,
  otherPart,
  type PairingPart,
  parseOffer,
  shortFingerprintOf,
} from './offer.ts'
import { encodePairingRecord, type PairingKeeper, type PairingRecord, type RecordAt } from './record.ts'

const SEAT_KEY_BYTES = 16

export interface BeginParts {
  readonly crypto: Crypto
  readonly clock: Clock
  readonly keeper: PairingKeeper
  /** Opens the mailbox, or finds that it is this device's already. */
  open(seat: {
    readonly mailboxId: Uint8Array
    readonly seatKey: Uint8Array
  }): Promise<{ readonly nameplate: number; readonly lifetimeMs: number }>
  /** Takes the joiner's seat, or finds that it is this device's already. */
  join(
    target: Uint8Array | number,
    seatKey: Uint8Array,
  ): Promise<{ readonly mailboxId: Uint8Array; readonly lifetimeMs: number }>
}

export interface PairingPlan {
  readonly part: PairingPart
  readonly server: PairingRecord['server']
  readonly newDevice: PairingRecord['newDevice']
  /** What was scanned or typed; without it this device displays. */
  readonly offer: string | undefined
  /** How many codes this device has shown before this one, each of which was spoiled. */
  readonly renewals: number
}

/** Throws a `SetupError` when the offer is none, or not for this device. */
export function planPairing(
  { crypto, clock }: Pick<BeginParts, 'crypto' | 'clock'>,
  { part, server, newDevice, offer, renewals }: PairingPlan,
): RecordAt<'opening'> | RecordAt<'joining'> {
  const common = {
    version: 1 as const,
    part,
    endsAtMs: clock.now() + PAIRING_LIFETIME_MS,
    seatKey: crypto.randomBytes(SEAT_KEY_BYTES),
    server,
    renewals,
    ...(newDevice === undefined ? {} : { newDevice }),
  }
  if (offer !== undefined) {
    checkOffer(offer, part, server.fingerprint)
    return { ...common, stage: 'joining', offer, offerHash: hashOffer(crypto, offer) }
  }
  return {
    ...common,
    stage: 'opening',
    mailboxId: crypto.randomBytes(MAILBOX_ID_BYTES),
    secret: crypto.randomBytes(OFFER_SECRET_BYTES),
    digits: createCodeDigits(crypto),
  }
}

export const hashOffer = (crypto: Crypto, offer: string): Uint8Array => crypto.sha256(encodeUtf8(canonicalOffer(offer)))

/** What can be told from the text alone. Throws a `SetupError`. */
function checkOffer(text: string, part: PairingPart, serverFingerprint: Uint8Array): void {
  const offer = parseOffer(text)
  if (offer === undefined) {
    throw new SetupError(
      'bad_offer',
      `That is no pairing code; it looks like ${CODE_EXAMPLE}, or is the address in a QR.`,
    )
  }
  if (offer.form === 'code') return
  if (offer.part !== otherPart(part)) {
    const text =
      part === 'new'
        ? 'That code was shown by a device that belongs to no account either.'
        : 'That code was shown by a device that belongs to an account already.'
    throw new SetupError('bad_offer', text)
  }
  if (!equalBytes(offer.shortFingerprint, shortFingerprintOf(serverFingerprint))) {
    throw new SetupError(
      'wrong_server_key',
      'The other device knows this server by another key: someone may be between one of them and the server, or it is another server.',
    )
  }
}

/** Rejects as `open` and `join` do. */
export async function beginPairing(
  parts: BeginParts,
  record: RecordAt<'opening'> | RecordAt<'joining'>,
): Promise<RecordAt<'running'>> {
  await parts.keeper.save(encodePairingRecord(record))
  return record.stage === 'opening' ? openOffer(parts, record) : takeSeat(parts, record)
}

async function openOffer({ clock, open }: BeginParts, record: RecordAt<'opening'>): Promise<RecordAt<'running'>> {
  const { stage: _, mailboxId, secret, digits, ...common } = record
  const { part, server, seatKey } = record
  const { nameplate, lifetimeMs } = await open({ mailboxId, seatKey })
  if (nameplate < MIN_NAMEPLATE || nameplate > MAX_NAMEPLATE) {
    throw new SetupError('pairing_refused', 'The server opened a pairing under a number that no code can hold.')
  }
  const shortFingerprint = shortFingerprintOf(server.fingerprint)
  return {
    ...common,
    endsAtMs: Math.min(record.endsAtMs, clock.now() + lifetimeMs),
    stage: 'running',
    shown: {
      url: formatQrOffer({ serverUrl: server.url, mailboxId, secret, shortFingerprint, part }),
      code: formatCodeOffer({ nameplate, digits }),
    },
    state: offerPairing(
      { nowMs: clock.now() },
      { part, mailboxId, serverFingerprint: server.fingerprint, nextFingerprint: server.nextFingerprint },
      { secret, digits },
    ),
  }
}

async function takeSeat(
  { crypto, clock, join }: BeginParts,
  record: RecordAt<'joining'>,
): Promise<RecordAt<'running'>> {
  const { stage: _, offer: text, ...common } = record
  const { part, server, seatKey } = record
  const offer = parseOffer(text)
  if (offer === undefined) throw new SetupError('bad_offer', 'That is no pairing code.')
  const target = offer.form === 'qr' ? offer.mailboxId : offer.nameplate
  const { mailboxId, lifetimeMs } = await join(target, seatKey)
  if (offer.form === 'qr' && !equalBytes(mailboxId, offer.mailboxId)) {
    throw new SetupError(
      'pairing_refused',
      'The server led to another mailbox than the code names. Nothing was let in.',
    )
  }
  const secret = offer.form === 'qr' ? offer.secret : encodeUtf8(offer.digits)
  return {
    ...common,
    endsAtMs: Math.min(record.endsAtMs, clock.now() + lifetimeMs),
    stage: 'running',
    state: joinPairing(
      { crypto },
      { part, mailboxId, serverFingerprint: server.fingerprint, nextFingerprint: server.nextFingerprint },
      { form: offer.form, secret },
    ),
  }
}
