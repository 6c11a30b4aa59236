// Mailboxes of pairing for scenes of two transactions, and all of pairing inside one of them.

import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import type { Queryable } from '../../src/db/postgres.ts'
import { insertMailbox, seatJoiner } from '../../src/db/queries/pairing-mailboxes.ts'
import { createPairings, type Pairings, type Seat } from '../../src/devices/pairing.ts'
import { id } from '../support/open-database.ts'

/** All of pairing, in the transaction that the test steps. */
export const pairingsIn = (tx: Queryable): Pairings =>
  createPairings({
    crypto,
    db: { kind: 'postgres', query: tx.query, transaction: (_options, work) => work(tx), close: async () => undefined },
    count: () => undefined,
  })

export const newSeat = (): Seat => ({ mailboxId: id(), seatKey: id() })

let addresses = 0
/** Each in a network of its own. */
export const newAddress = (): string => `10.0.${++addresses}.1`

/** Never one that is drawn: those have nine digits. */
let nameplates = 900_000
export const newNameplate = (): number => ++nameplates

export interface OpenedMailbox {
  readonly mailboxId: Uint8Array
  readonly nameplate: number
  readonly displayer: Seat
}

export async function openMailbox(db: Queryable): Promise<OpenedMailbox> {
  const displayer = newSeat()
  const { mailboxId, seatKey } = displayer
  const nameplate = newNameplate()
  await insertMailbox(db, { mailboxId, nameplate, displayerHash: crypto.sha256(seatKey), openerAddress: newAddress() })
  return { mailboxId, nameplate, displayer }
}

/** Joined without a use of the address. */
export async function openJoinedMailbox(db: Queryable, address: string): Promise<OpenedMailbox> {
  const opened = await openMailbox(db)
  await seatJoiner(db, opened.mailboxId, { hash: crypto.sha256(id()), address, maxAgeMs: 60_000 })
  return opened
}
