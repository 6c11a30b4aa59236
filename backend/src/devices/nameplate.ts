// The number that a joiner types, drawn from so many that a stranger who tries numbers hardly ever meets one in use: nine
// digits, the first of which is no zero (decision 0049 has the arithmetic).

const MIN_NAMEPLATE = 100_000_000
const NAMEPLATE_COUNT = 900_000_000
/** The largest multiple of the count that four bytes hold: what is drawn above it would favour the low numbers. */
const DRAW_LIMIT = Math.floor(2 ** 32 / NAMEPLATE_COUNT) * NAMEPLATE_COUNT

export function drawNameplate(random: { randomBytes(length: number): Uint8Array }): number {
  for (;;) {
    const bytes = random.randomBytes(4)
    const drawn = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0)
    if (drawn < DRAW_LIMIT) return MIN_NAMEPLATE + (drawn % NAMEPLATE_COUNT)
  }
}
