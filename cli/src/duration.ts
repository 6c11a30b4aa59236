// A length of time as a person writes it: a number and s, m, h or d.

const MS_BY_UNIT: ReadonlyMap<string, number> = new Map([
  ['s', 1000],
  ['m', 60_000],
  ['h', 3_600_000],
  ['d', 86_400_000],
])

/** In milliseconds; `undefined` for anything else. */
export function parseDurationMs(text: string): number | undefined {
  const [, count, unit = ''] = /^(\d{1,9})([smhd])$/.exec(text) ?? []
  const unitMs = MS_BY_UNIT.get(unit)
  return count === undefined || unitMs === undefined ? undefined : Number(count) * unitMs
}
