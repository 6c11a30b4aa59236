// Pairing's mailboxes as the server keeps them (PROTOCOL F): it seats two, carries eight messages it cannot read, counts
// who tries, and ends a mailbox at the first failure. All of it stands in the database, so any node serves either device.

import type { Crypto } from '@valise/protocol'
import type { Database, Queryable } from '../db/postgres.ts'
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
/** The displaying device's second message, which it writes only once the joiner's confirmation was right. */
const CONFIRMED_SLOT = 3

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
  /** Idempotent for the same key. A join counts against the address until the displaying device goes on with it. */
  join(target: Uint8Array | number, seatKey: Uint8Array, address: string): Promise<JoinResult>
  post(seat: Seat, slot: number, body: Uint8Array): Promise<Posted>
  read(seat: Seat, slot: number): Promise<Read>
  /** The first end stays. A failed pairing remains a failed join of the joiner's address, whoever ends it. */
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

  const takeOpening = (tx: Queryable, opener: Opener): Promise<number | undefined> =>
    opener.type === 'user'
      ? takeOpeningOfUser(tx, opener.userId, OPENINGS_OF_USER)
      : takeUseOfAddress(tx, 'opening', opener.address, OPENINGS_OF_ADDRESS)

  /** What is open under this id: the seat's own mailbox, or another's; undefined for none. */
  const findOpened = async ({ mailboxId, seatKey }: Seat): Promise<Opened | undefined> => {
    const mailbox = await findMailbox(db, mailboxId)
    if (mailbox === undefined) return undefined
    if (seatOf(mailbox, seatKey) !== 'displayer' || mailbox.ending !== undefined) return { type: 'taken' }
    return { type: 'opened', nameplate: mailbox.nameplate, lifetimeMs: lifetimeOf(mailbox) }
  }

  /** The use of the limit is held until the mailbox is there, so the same opening sent at once waits, and then finds it. */
  const openNew = async (tx: Queryable, opener: Opener, { mailboxId, seatKey }: Seat): Promise<Opened> => {
    const retryAfterMs = await takeOpening(tx, opener)
    if (retryAfterMs !== undefined) return { type: 'limited', retryAfterMs }
    const openCount = await countMailboxes(tx)
    if (openCount >= MAX_OPEN_PAIRINGS) return { type: 'limited', retryAfterMs: PAIRING_LIFETIME_MS }
    const displayerHash = crypto.sha256(seatKey)
    for (let attempt = 0; attempt < MAX_NAMEPLATE_TRIES; attempt++) {
      const nameplate = drawNameplate(openCount)
      const inserted = await insertMailbox(tx, { mailboxId, nameplate, displayerHash })
      if (inserted === 'inserted') return { type: 'opened', nameplate, lifetimeMs: PAIRING_LIFETIME_MS }
      if (inserted === 'id_taken') break
    }
    return { type: 'taken' }
  }

  const open = async (opener: Opener, seat: Seat): Promise<Opened> => {
    const before = await findOpened(seat)
    if (before !== undefined) return before
    const opened = await db.transaction({ name: 'open_pairing' }, (tx) => openNew(tx, opener, seat))
    if (opened.type === 'opened') return opened
    return (await findOpened(seat)) ?? opened
  }

  const join = async (target: Uint8Array | number, seatKey: Uint8Array, address: string): Promise<JoinResult> => {
    const mailboxId = typeof target === 'number' ? await findMailboxByNameplate(db, target) : target
    // Who has the seat guesses nothing, and is let in whatever the address has used.
    const own = mailboxId === undefined ? undefined : await findJoined(mailboxId, seatKey)
    if (own !== undefined) return own
    // Taken before a guess is made, and kept until the displaying device has seen that it was right: guesses made at
    // once are counted like guesses one by one, and so is one whose maker tells nobody that it was wrong.
    const retryAfterMs = await takeUseOfAddress(db, 'failed_join', address, FAILED_JOINS_OF_ADDRESS)
    if (retryAfterMs !== undefined) return { type: 'limited', retryAfterMs }
    if (mailboxId === undefined) return { type: 'not_found' }
    const maxAgeMs = JOIN_LIFETIME_MS[typeof target === 'number' ? 'nameplate' : 'id']
    const isSeated = await seatJoiner(db, mailboxId, { hash: crypto.sha256(seatKey), address, maxAgeMs })
    const joined = await findJoined(mailboxId, seatKey)
    // The same join at once has taken a use, too.
    if (joined?.type === 'joined' && !isSeated) await returnUseOfAddress(db, 'failed_join', address, 'newest')
    return joined ?? (await whyNotJoined(mailboxId))
  }

  /** For whom the seat is: how the pairing under way goes on. Undefined for everybody else. */
  const findJoined = async (mailboxId: Uint8Array, seatKey: Uint8Array): Promise<JoinResult | undefined> => {
    const mailbox = await findMailbox(db, mailboxId)
    if (mailbox === undefined || seatOf(mailbox, seatKey) !== 'joiner') return undefined
    if (mailbox.ending !== undefined) return { type: mailbox.ending }
    return { type: 'joined', mailboxId, lifetimeMs: lifetimeOf(mailbox) }
  }

  const whyNotJoined = async (mailboxId: Uint8Array): Promise<JoinResult> => {
    const mailbox = await findMailbox(db, mailboxId)
    if (mailbox?.ending !== undefined) return { type: mailbox.ending }
    return { type: mailbox?.joinerHash === undefined ? 'not_found' : 'taken' }
  }

  /** A message, and with the one that shows that the joiner guessed right its address's use back, or neither. */
  const postInSeat = ({ mailboxId }: Seat, { joinerAddress }: Mailbox, slot: number, body: Uint8Array) =>
    db.transaction({ name: 'post_pairing_message' }, async (tx) => {
      const posted = await postMessage(tx, { mailboxId, slot, body })
      if (posted === 'stored' && slot === CONFIRMED_SLOT && joinerAddress !== undefined) {
        await returnUseOfAddress(tx, 'failed_join', joinerAddress, 'oldest')
      }
      return posted
    })

  return {
    open: async (opener, seat) => countedAs(await open(opener, seat)),
    join: async (target, seatKey, address) => {
      const result = countedAs(await join(target, seatKey, address))
      if (result.type !== 'joined' && result.type !== 'limited') count('join_failed')
      return result
    },
    post: async (seat, slot, body) => {
      const entered = await enter(seat)
      if (entered.type !== 'open') return entered
      if (seatOfSlot(slot) !== entered.seat) return { type: 'no_seat' }
      const posted = await postInSeat(seat, entered.mailbox, slot, body)
      if (posted === 'taken') return { type: 'slot_taken' }
      if (posted !== 'closed') return { type: 'stored' }
      // It ended meanwhile: how, the asker is told.
      const after = await enter(seat)
      return { type: after.type === 'open' ? 'not_found' : after.type }
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
      if (isFirst) count(ending)
      return 'done'
    },
  }
}

/** Who joins writes the even slots, who displays the odd ones. */
const seatOfSlot = (slot: number): 'displayer' | 'joiner' => (slot % 2 === 0 ? 'joiner' : 'displayer')
