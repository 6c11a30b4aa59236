// What users and addresses may use of pairing (PAIR-7, PAIR-11): openings an hour, tries in ten minutes, and one rate of
// tries for all addresses, of which those that have not failed get most. Networks are counted beside their addresses.

import type { Database, Queryable } from '../db/postgres.ts'
import {
  type AddressUse,
  countUsesOfAddresses,
  type RetryAfterMs,
  returnUseOfAddress,
  takeOpeningOfUser,
  takeUseOfAddress,
  type UseLimit,
} from '../db/queries/pairing-limits.ts'
import { type SharedRate, takeFromRate, waitForRate } from '../db/queries/pairing-rates.ts'
import { networksOf } from '../limits/client-address.ts'

/** A code that is spoiled is renewed up to three times on one screen. */
export const OPENINGS_OF_USER: UseLimit = { max: 10, windowMs: 3_600_000 }
/** Of one address. Many households are behind some addresses; devices with an account get more than those without. */
export const OPENINGS_OF_ADDRESS: Readonly<Record<Opener['type'], UseLimit>> = {
  address: { max: 20, windowMs: 3_600_000 },
  user: { max: 60, windowMs: 3_600_000 },
}
export const FAILED_JOINS_OF_ADDRESS: UseLimit = { max: 10, windowMs: 600_000 }
/** Tries by number, of all addresses together. */
export const JOINS_BY_NUMBER: SharedRate = { kind: 'join', perSecond: 10, burst: 600 }
/** Each failed join of the past hour, up to three, keeps an address out of one more quarter of the bucket. */
const MAX_FAILURES_COUNTED = 3

/** The device that opens a mailbox, and where it asks from: one of a user in its session, or one without a user yet. */
export type Opener =
  | { readonly type: 'user'; readonly userId: Uint8Array; readonly address: string }
  | { readonly type: 'address'; readonly address: string }

/** Thrown inside a transaction, so that nothing that was taken before it stays taken. */
export class LimitReached extends Error {
  override readonly name = 'LimitReached'
  readonly retryAfterMs: number

  constructor(retryAfterMs: number) {
    super('a limit of pairing is reached')
    this.retryAfterMs = retryAfterMs
  }
}

/** Throws `LimitReached`. */
export async function takeOpening(tx: Queryable, opener: Opener): Promise<void> {
  if (opener.type === 'user') requireTaken(await takeOpeningOfUser(tx, opener.userId, OPENINGS_OF_USER))
  await takeUseOfNetworks(tx, 'opening', opener.address, OPENINGS_OF_ADDRESS[opener.type])
}

/**
 * Counts a join as failed until it is seen to be right. `isGuess`: it may have been tried without having seen a code, so it
 * takes of the rate that all share. A join by the id of a mailbox that exists is none: only the QR shows the id.
 */
export async function takeTry(
  db: Database,
  address: string,
  { isGuess }: { readonly isGuess: boolean },
): Promise<RetryAfterMs> {
  // Refused without a lock when it would be refused anyway.
  const retryAfterMs = isGuess ? await waitForRate(db, JOINS_BY_NUMBER, await keptFrom(db, address, 0)) : undefined
  if (retryAfterMs !== undefined) return retryAfterMs
  try {
    await db.transaction({ name: 'take_pairing_try' }, async (tx) => {
      await takeUseOfNetworks(tx, 'failed_join', address, FAILED_JOINS_OF_ADDRESS)
      if (!isGuess) return
      // Read behind the locks on the address and its networks: of tries at once, each finds those before it.
      const keptTokens = await keptFrom(tx, address, 1)
      // Last: everybody who tries a number waits for this row.
      requireTaken(await takeFromRate(tx, JOINS_BY_NUMBER, keptTokens))
    })
    return undefined
  } catch (error) {
    if (error instanceof LimitReached) return error.retryAfterMs
    throw error
  }
}

export async function returnTry(db: Queryable, address: string, which: 'newest' | 'oldest'): Promise<void> {
  for (const { key } of networksOf(address)) {
    await returnUseOfAddress(db, 'failed_join', key, FAILED_JOINS_OF_ADDRESS, which)
  }
}

/** From the address to its widest network, so that no two transactions wait for each other. */
async function takeUseOfNetworks(tx: Queryable, kind: AddressUse, address: string, limit: UseLimit): Promise<void> {
  for (const { key, weight } of networksOf(address)) {
    requireTaken(await takeUseOfAddress(tx, kind, key, { ...limit, max: limit.max * weight }))
  }
}

function requireTaken(retryAfterMs: RetryAfterMs): void {
  if (retryAfterMs !== undefined) throw new LimitReached(retryAfterMs)
}

/**
 * How many tokens an address with failures leaves to those that have fewer. A network counts as its average address.
 * `ownUses`: uses of the try itself that are counted already, and are no failures.
 */
async function keptFrom(db: Queryable, address: string, ownUses: 0 | 1): Promise<number> {
  const networks = networksOf(address)
  const countByKey = await countUsesOfAddresses(
    db,
    'failed_join',
    networks.map(({ key }) => key),
  )
  const failures = Math.max(
    ...networks.map(({ key, weight }) => Math.floor(((countByKey.get(key) ?? ownUses) - ownUses) / weight)),
  )
  return (JOINS_BY_NUMBER.burst * Math.min(failures, MAX_FAILURES_COUNTED)) / (MAX_FAILURES_COUNTED + 1)
}
