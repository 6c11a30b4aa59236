// Pairing's mailboxes as the server keeps them (PROTOCOL F): it seats two, carries eight messages it cannot read, counts
// who tries, and ends a mailbox at the first failure. All of it stands in the database, so any node serves either device.
// More than 300 lines: what a seat may do depends on who else sits, who opened and who tried, which is read as one.

import type { Crypto } from '@valise/protocol'
import type { Database, Queryable } from '../db/postgres.ts'
import {
  countMailboxes,
  deleteOldestEndedMailbox,
  endMailbox,
  evictNewestMailbox,
  findMailbox,
  findMailboxByNameplate,
  insertMailbox,
  type Mailbox,
  type MailboxEnding,
  PAIRING_LIFETIME_MS,
  postMessage,
  readMessage,
  readPlaceHolders,
  seatJoiner,
} from '../db/queries/pairing-mailboxes.ts'
import type { PairingEvent } from '../telemetry/pairing-metrics.ts'
import { drawNameplate } from './nameplate.ts'
import { chooseLoser } from './pairing-shares.ts'
import { LimitReached, type Opener, returnTry, takeOpening, takeTry } from './pairing-uses.ts'

/** How long after it was opened a mailbox may be joined: by its id, which only a QR shows, or by its number. */
export const JOIN_LIFETIME_MS = { id: 120_000, nameplate: 300_000 } as const
/** Open at once; as many again may have ended and are kept so that their devices hear how. */
export const MAX_OPEN_PAIRINGS = 10_000
const MAX_NAMEPLATE_TRIES = 64
/** The displaying device's second message, which it writes only once the joiner's confirmation was right. */
const CONFIRMED_SLOT = 3

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
  | { readonly type: 'not_found' | 'taken' | MailboxEnding }
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
  end(seat: Seat, ending: 'failed' | 'ended'): Promise<Absence | 'done'>
}

export interface PairingsParts {
  readonly crypto: Pick<Crypto, 'sha256' | 'isEqual' | 'randomBytes'>
  readonly db: Database
  count(event: PairingEvent): void
  /** Default: `MAX_OPEN_PAIRINGS`. */
  readonly maxOpen?: number
}

export function createPairings({ crypto, db, count, maxOpen = MAX_OPEN_PAIRINGS }: PairingsParts): Pairings {
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

  /** What is open under this id: the seat's own mailbox, or another's; undefined for none. */
  const findOpened = async ({ mailboxId, seatKey }: Seat): Promise<Opened | undefined> => {
    const mailbox = await findMailbox(db, mailboxId)
    if (mailbox === undefined) return undefined
    if (seatOf(mailbox, seatKey) !== 'displayer' || mailbox.ending !== undefined) return { type: 'taken' }
    return { type: 'opened', nameplate: mailbox.nameplate, lifetimeMs: lifetimeOf(mailbox) }
  }

  /** When all places are taken, the address that holds most gives one up; throws `LimitReached` when that is the opener's. */
  const makeRoom = async (tx: Queryable, { address }: Opener): Promise<'free' | 'evicted'> => {
    const { openCount, rowCount } = await countMailboxes(tx)
    if (rowCount >= 2 * maxOpen) await deleteOldestEndedMailbox(tx)
    if (openCount < maxOpen) return 'free'
    const loser = chooseLoser(await readPlaceHolders(tx), address)
    if (loser === undefined) throw new LimitReached(PAIRING_LIFETIME_MS)
    return (await evictNewestMailbox(tx, loser)) ? 'evicted' : 'free'
  }

  /** The use of the limit is held until the mailbox is there, so the same opening sent at once waits, and then finds it. */
  const openNew = async (tx: Queryable, opener: Opener, { mailboxId, seatKey }: Seat) => {
    await takeOpening(tx, opener)
    const room = await makeRoom(tx, opener)
    const displayerHash = crypto.sha256(seatKey)
    for (let attempt = 0; attempt < MAX_NAMEPLATE_TRIES; attempt++) {
      const nameplate = drawNameplate(crypto)
      const inserted = await insertMailbox(tx, { mailboxId, nameplate, displayerHash, openerAddress: opener.address })
      if (inserted === 'inserted') return { room, nameplate }
      if (inserted === 'id_taken') break
    }
    throw new IdTaken()
  }

  const open = async (opener: Opener, seat: Seat): Promise<Opened> => {
    const before = await findOpened(seat)
    if (before !== undefined) return before
    try {
      const { room, nameplate } = await db.transaction({ name: 'open_pairing' }, (tx) => openNew(tx, opener, seat))
      if (room === 'evicted') count('evicted')
      return { type: 'opened', nameplate, lifetimeMs: PAIRING_LIFETIME_MS }
    } catch (error) {
      const refused = refusalOf(error)
      if (refused === undefined) throw error
      return (await findOpened(seat)) ?? refused
    }
  }

  const join = async (target: Uint8Array | number, seatKey: Uint8Array, address: string): Promise<JoinResult> => {
    const mailboxId = typeof target === 'number' ? await findMailboxByNameplate(db, target) : target
    const mailbox = mailboxId === undefined ? undefined : await findMailbox(db, mailboxId)
    // A retry by the owner of the seat guesses nothing, so no limit applies.
    const own = mailboxId === undefined || mailbox === undefined ? undefined : joinedAs(mailboxId, mailbox, seatKey)
    if (own !== undefined) return own
    // Taken before a guess is made, and kept until the displaying device has seen that it was right: guesses made at
    // once are counted like guesses one by one, and so is one whose maker tells nobody that it was wrong.
    const isGuess = typeof target === 'number' || mailbox === undefined
    const retryAfterMs = await takeTry(db, address, { isGuess })
    if (retryAfterMs !== undefined) return { type: 'limited', retryAfterMs }
    if (mailboxId === undefined) return { type: 'not_found' }
    const maxAgeMs = JOIN_LIFETIME_MS[typeof target === 'number' ? 'nameplate' : 'id']
    const isSeated = await seatJoiner(db, mailboxId, { hash: crypto.sha256(seatKey), address, maxAgeMs })
    const seated = await findMailbox(db, mailboxId)
    const joined = seated === undefined ? undefined : joinedAs(mailboxId, seated, seatKey)
    // The same join at once has taken a use, too.
    if (joined?.type === 'joined' && !isSeated) await returnTry(db, address, 'newest')
    return joined ?? whyNotJoined(seated)
  }

  /** How the pairing goes on for the device in the joiner's seat; undefined for every other. */
  const joinedAs = (mailboxId: Uint8Array, mailbox: Mailbox, seatKey: Uint8Array): JoinResult | undefined => {
    if (seatOf(mailbox, seatKey) !== 'joiner') return undefined
    if (mailbox.ending !== undefined) return { type: mailbox.ending }
    return { type: 'joined', mailboxId, lifetimeMs: lifetimeOf(mailbox) }
  }

  const whyNotJoined = (mailbox: Mailbox | undefined): JoinResult => {
    if (mailbox?.ending !== undefined) return { type: mailbox.ending }
    return { type: mailbox?.joinerHash === undefined ? 'not_found' : 'taken' }
  }

  /** A message, and with the one that shows that the joiner guessed right its address's use back, or neither. */
  const postInSeat = ({ mailboxId }: Seat, { joinerAddress }: Mailbox, slot: number, body: Uint8Array) =>
    db.transaction({ name: 'post_pairing_message' }, async (tx) => {
      const posted = await postMessage(tx, { mailboxId, slot, body })
      if (posted === 'stored' && slot === CONFIRMED_SLOT && joinerAddress !== undefined) {
        await returnTry(tx, joinerAddress, 'oldest')
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

/** Thrown inside the transaction that opens, so that no use is taken for it. */
class IdTaken extends Error {
  override readonly name = 'IdTaken'
}

function refusalOf(error: unknown): Opened | undefined {
  if (error instanceof LimitReached) return { type: 'limited', retryAfterMs: error.retryAfterMs }
  return error instanceof IdTaken ? { type: 'taken' } : undefined
}
