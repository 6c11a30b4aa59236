// A rate that all addresses share (PAIR-11), in the database, so that the nodes of a server have one between them: a
// bucket of tokens that fills by the database's clock. What is refused writes nothing.

import type { Queryable, Statement } from '../postgres.ts'
import type { RetryAfterMs } from './pairing-limits.ts'

export interface SharedRate {
  readonly kind: 'join'
  readonly perSecond: number
  /** What the full bucket holds. */
  readonly burst: number
}

/** `$2`: tokens a second, `$3`: of the full bucket. */
const TOKENS = `least($3::float8, r.tokens + greatest(0, date_part('epoch', clock_timestamp() - r.filled_at)) * $2::float8)`

const take: Statement = {
  name: 'take_pairing_rate',
  text: `
    insert into pairing_rates as r (kind, tokens, filled_at)
    values ($1, $3::float8 - 1, clock_timestamp())
    on conflict (kind) do update
    set
      tokens = ${TOKENS} - 1,
      filled_at = greatest(r.filled_at, clock_timestamp())
    where ${TOKENS} >= $4::float8 + 1
    returning r.kind`,
}

const read: Statement = {
  name: 'read_pairing_rate',
  text: `select ${TOKENS} as token_count from pairing_rates as r where r.kind = $1`,
}

/** When a token could be taken that leaves `keptTokens` to others; undefined: now. Takes nothing. */
export async function waitForRate(
  db: Queryable,
  { kind, perSecond, burst }: SharedRate,
  keptTokens: number,
): Promise<RetryAfterMs> {
  const [row] = await db.query<{ token_count: number }>(read, [kind, perSecond, burst])
  const missing = keptTokens + 1 - Number(row?.token_count ?? burst)
  return missing <= 0 ? undefined : Math.max(1, Math.ceil((missing / perSecond) * 1000))
}

/** Takes a token when more than `keptTokens` are there. */
export async function takeFromRate(tx: Queryable, rate: SharedRate, keptTokens: number): Promise<RetryAfterMs> {
  const { kind, perSecond, burst } = rate
  if ((await tx.query(take, [kind, perSecond, burst, keptTokens])).length > 0) return undefined
  return (await waitForRate(tx, rate, keptTokens)) ?? 1
}
