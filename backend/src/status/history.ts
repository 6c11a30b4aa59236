// The last few minutes of a server, a reading a second, so that a page that is opened now shows what was before. Bounded:
// `MAX_READINGS` readings of some two hundred numbers, about a megabyte.

import type { CodeCount, Reading } from './reading.ts'

/** Five minutes, and the reading before them. */
export const MAX_READINGS = 301

export interface History {
  add(reading: Reading): void
  /** Oldest first, never empty after the first `add`. */
  readonly readings: readonly Reading[]
  /** When a code was last seen to be counted, Unix milliseconds; undefined when it was not while this ran. */
  lastSeen(code: Pick<CodeCount, 'kind' | 'code'>): number | undefined
}

const keyOf = ({ kind, code }: Pick<CodeCount, 'kind' | 'code'>): string => `${kind} ${code}`

export function createHistory(maxReadings = MAX_READINGS): History {
  const readings: Reading[] = []
  /** As many as there are codes. */
  const lastSeenByCode = new Map<string, number>()
  let countByCode: ReadonlyMap<string, number> = new Map()

  return {
    readings,
    add: (reading) => {
      for (const code of reading.codes) {
        if (code.count > (countByCode.get(keyOf(code)) ?? 0)) lastSeenByCode.set(keyOf(code), reading.atMs)
      }
      countByCode = new Map(reading.codes.map((code) => [keyOf(code), code.count]))
      readings.push(reading)
      if (readings.length > maxReadings) readings.shift()
    },
    lastSeen: (code) => lastSeenByCode.get(keyOf(code)),
  }
}
