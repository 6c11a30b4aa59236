// What the bytes of an event may be missing for. Everything else that comes without its bytes is withheld.

import { type EventLeaf, isKeptFlags } from '@valise/protocol'
import type { Excuse } from '../store/records.ts'

export interface LeafPlace {
  readonly userSeq: number
  readonly storedAtMs: number
}

/** What is known when a leaf is judged. */
export interface ExcuseParts {
  /** The server's time, when the log was read; without it no lifetime has ended. */
  readonly atMs: number | undefined
  isPruned(userSeq: number): boolean
}

export function excuseOf(
  { ttlS, flags }: Pick<EventLeaf, 'ttlS' | 'flags'>,
  { userSeq, storedAtMs }: LeafPlace,
  { atMs, isPruned }: ExcuseParts,
): Excuse | undefined {
  const hasLifetime = ttlS > 0 && !isKeptFlags(flags)
  if (hasLifetime && atMs !== undefined && storedAtMs + ttlS * 1000 <= atMs) return 'lifetime'
  return isPruned(userSeq) ? 'pruned' : undefined
}
