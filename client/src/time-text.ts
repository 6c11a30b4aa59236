// A time as people and scripts read it.

/** The last millisecond that a `Date` can name; a signer may write a later one. */
const MAX_DATE_MS = 8_640_000_000_000_000

/** ISO 8601 in UTC, of Unix milliseconds by whoever's clock; beyond what that can name, the last or first date there is. */
export const formatTime = (timeMs: number): string =>
  new Date(Math.max(-MAX_DATE_MS, Math.min(timeMs, MAX_DATE_MS))).toISOString()
