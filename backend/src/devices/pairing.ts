// Pairing's mailboxes as the server keeps them (PROTOCOL F): it seats two, carries eight messages it cannot read, counts
// who tries, and ends a mailbox at the first failure. All of it stands in the database, so any node serves either device.

import type { Crypto } from '@valise/protocol'
import type { Database } from '../db/postgres.ts'
import { returnUseOfAddress, takeOpeningOfUser, takeUseOfAddress, type UseLimit } from '../db/queries/pairing-limits.ts'
import {
  countMailboxes,
  endMailbox,
  findMailbox,
  findMailboxByNameplate,
  insertMailbox,
  type Mailbox,
  type MailboxEnding,
  PAIRING_LIFETIME_MS,
  postMessage,
  readMessage,
  seatJoiner,
} from '../db/queries/pairing-mailboxes.ts'
import type { PairingEvent } from '../telemetry/pairing-metrics.ts'

/** How long after it was opened a mailbox may be joined: by its id, which only a QR shows, or by its number. */
export const JOIN_LIFETIME_MS = { id: 120_000, nameplate: 300_000 } as const
export const OPENINGS_OF_USER: UseLimit = { max: 5, windowMs: 3_600_000 }
/** Devices without a user yet; many households are behind one address. */
export const OPENINGS_OF_ADDRESS: UseLimit = { max: 20, windowMs: 3_600_000 }
export const FAILED_JOINS_OF_ADDRESS: UseLimit = { max: 10, windowMs: 600_000 }
export const MAX_OPEN_PAIRINGS = 10_000
/** The largest number of each length; a range is used while less than half of it is taken. */
const NAMEPLATE_RANGES = [999, 9999, 99_999, 999_999]
const MAX_NAMEPLATE_TRIES = 64

/** Whose the mailbox is: a user's whose device asks in its session, or an address's. */
export type Opener =
  | { readonly type: 'user'; readonly userId: Uint8Array }
  | { readonly type: 'address'; readonly address: string }

export interface Seat {
  readonly mailboxId: Uint8Array
  /** Made by the device that sits there, 16 bytes. */
  readonly seatKey: Uint8Array
}

export type Opened =
  | { readonly type: 'opened'; readonly nameplate: number; readonly lifetimeMs: number }
  | { readonly type: 'taken' }
  | { readonly type: 'limited'; readonly retryAfterMs: number }

export type JoinResult =
  | { readonly type: 'joined'; readonly mailboxId: Uint8Array; readonly lifetimeMs: number }
  | { readonly type: 'not_found' | 'taken' | 'ended' | 'failed' }
  | { readonly type: 'limited'; readonly retryAfterMs: number }

export type Posted = { readonly type: 'stored' | 'slot_taken' | Absence }
export type Read = { readonly type: 'message'; readonly body: Uint8Array } | { readonly type: 'empty' | Absence }
/** Why there is no such mailbox for the asker. */
export type Absence = 'not_found' | 'no_seat' | MailboxEnding

export interface Pairings {
  /** Idempotent for the same id and key. */
  open(opener: Opener, seat: Seat): Promise<Opened>
  /** Idempotent for the same key. Every join that fails counts against the address. */
  join(target: Uint8Array | number, seatKey: Uint8Array, address: string): Promise<JoinResult>
  post(seat: Seat, slot: number, body: Uint8Array): Promise<Posted>
  read(seat: Seat, slot: number): Promise<Read>
  /** A failed pairing counts as a failed join of the joiner's address. */
  end(seat: Seat, ending: MailboxEnding): Promise<Absence | 'done'>
}

export interface PairingsParts {
  readonly crypto: Pick<Crypto, 'sha256' | 'isEqual' | 'randomBytes'>
  readonly db: Database
  count(event: PairingEvent): void
}

export function createPairings({ crypto, db, count }: PairingsParts): Pairings {
  const drawNameplate = (openCount: number): number => {
    const range = NAMEPLATE_RANGES.find((max) => openCount * 2 < max) ?? 999_999
    const bytes = crypto.randomBytes(4)
    return 1 + (new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0) % range)
  }

  /** Which seat the key proves. */
  const seatOf = (mailbox: Mailbox, seatKey: Uint8Array): 'displayer' | 'joiner' | undefined => {
    const hash = crypto.sha256(seatKey)
    if (crypto.isEqual(mailbox.displayerHash, hash)) return 'displayer'
    return mailbox.joinerHash !== undefined && crypto.isEqual(mailbox.joinerHash, hash) ? 'joiner' : undefined
  }

  /** The mailbox of a seat, or why it is closed to the asker. */
  const enter = async ({ mailboxId, seatKey }: Seat) => {
    const mailbox = await findMailbox(db, mailboxId)
    if (mailbox === undefined) return { type: 'not_found' as const }
    const seat = seatOf(mailbox, seatKey)
    if (seat === undefined) return { type: 'no_seat' as const }
    return mailbox.ending === undefined ? { type: 'open' as const, seat, mailbox } : { type: mailbox.ending }
  }

  const lifetimeOf = ({ ageMs }: Mailbox): number => Math.max(0, Math.floor(PAIRING_LIFETIME_MS - ageMs))

  const countedAs = <Result extends Opened | JoinResult>(result: Result): Result => {
    if (result.type === 'limited' || result.type === 'opened' || result.type === 'joined') count(result.type)
    return result
  }

  const takeOpening = (opener: Opener): Promise<number | undefined> =>
    opener.type === 'user'
      ? takeOpeningOfUser(db, opener.userId, OPENINGS_OF_USER)
      : takeUseOfAddress(db, 'opening', opener.address, OPENINGS_OF_ADDRESS)

  const open = async (opener: Opener, { mailboxId, seatKey }: Seat): Promise<Opened> => {
    const before = await findMailbox(db, mailboxId)
    if (before !== undefined) {
      const isOwn = seatOf(before, seatKey) === 'displayer' && before.ending === undefined
      return isOwn ? { type: 'opened', nameplate: before.nameplate, lifetimeMs: lifetimeOf(before) } : { type: 'taken' }
    }
    const retryAfterMs = await takeOpening(opener)
    if (retryAfterMs !== undefined) return { type: 'limited', retryAfterMs }
    const openCount = await countMailboxes(db)
    if (openCount >= MAX_OPEN_PAIRINGS) return { type: 'limited', retryAfterMs: PAIRING_LIFETIME_MS }
    const displayerHash = crypto.sha256(seatKey)
    for (let attempt = 0; attempt < MAX_NAMEPLATE_TRIES; attempt++) {
      const nameplate = drawNameplate(openCount)
      if (await insertMailbox(db, { mailboxId, nameplate, displayerHash })) {
        return { type: 'opened', nameplate, lifetimeMs: PAIRING_LIFETIME_MS }
      }
    }
    return { type: 'taken' }
  }

  const join = async (target: Uint8Array | number, seatKey: Uint8Array, address: string): Promise<JoinResult> => {
    // Taken before it is known to fail, so that guesses made at once are counted like guesses one by one.
    const retryAfterMs = await takeUseOfAddress(db, 'failed_join', address, FAILED_JOINS_OF_ADDRESS)
    if (retryAfterMs !== undefined) return { type: 'limited', retryAfterMs }
    const result = await sit(target, seatKey, address)
    if (result.type === 'joined') await returnUseOfAddress(db, 'failed_join', address)
    else count('join_failed')
    return result
  }

  const sit = async (target: Uint8Array | number, seatKey: Uint8Array, address: string): Promise<JoinResult> => {
    const isNumber = typeof target === 'number'
    const mailboxId = isNumber ? await findMailboxByNameplate(db, target) : target
    if (mailboxId === undefined) return { type: 'not_found' }
    const maxAgeMs = JOIN_LIFETIME_MS[isNumber ? 'nameplate' : 'id']
    const isSeated = await seatJoiner(db, mailboxId, { hash: crypto.sha256(seatKey), address, maxAgeMs })
    const mailbox = await findMailbox(db, mailboxId)
    if (mailbox === undefined) return { type: 'not_found' }
    if (mailbox.ending !== undefined) return { type: mailbox.ending }
    if (isSeated || seatOf(mailbox, seatKey) === 'joiner') {
      return { type: 'joined', mailboxId, lifetimeMs: lifetimeOf(mailbox) }
    }
    return { type: mailbox.joinerHash === undefined ? 'not_found' : 'taken' }
  }

  return {
    open: async (opener, seat) => countedAs(await open(opener, seat)),
    join: async (target, seatKey, address) => countedAs(await join(target, seatKey, address)),
    post: async (seat, slot, body) => {
      const entered = await enter(seat)
      if (entered.type !== 'open') return entered
      if (seatOfSlot(slot) !== entered.seat) return { type: 'no_seat' }
      const posted = await postMessage(db, { mailboxId: seat.mailboxId, slot, body })
      return { type: posted === 'stored' ? 'stored' : 'slot_taken' }
    },
    read: async (seat, slot) => {
      const entered = await enter(seat)
      if (entered.type !== 'open') return entered
      const body = await readMessage(db, seat.mailboxId, slot)
      return body === undefined ? { type: 'empty' } : { type: 'message', body }
    },
    end: async (seat, ending) => {
      const entered = await enter(seat)
      if (entered.type !== 'open') return entered.type
      const isFirst = await db.transaction({ name: 'end_pairing' }, (tx) => endMailbox(tx, seat.mailboxId, ending))
      const { joinerAddress } = entered.mailbox
      if (isFirst && ending === 'failed' && joinerAddress !== undefined) {
        await takeUseOfAddress(db, 'failed_join', joinerAddress, FAILED_JOINS_OF_ADDRESS)
      }
      if (isFirst) count(ending)
      return 'done'
    },
  }
}

/** Who joins writes the even slots, who displays the odd ones. */
const seatOfSlot = (slot: number): 'displayer' | 'joiner' => (slot % 2 === 0 ? 'joiner' : 'displayer')
