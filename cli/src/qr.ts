// A QR for a terminal: two rows of modules a line, light on dark whatever the terminal's own colours are, for not every
// camera reads it the other way round.

import { renderUnicodeCompact } from 'uqr'

const LIGHT_ON_DARK = '\u001b[97;40m'
const AS_BEFORE = '\u001b[0m'
/** Modules around it; cameras need some. */
const BORDER = 2

/** Lines joined by newlines; `isColoured` for a terminal. */
export function renderQr(text: string, isColoured: boolean): string {
  const plain = renderUnicodeCompact(text, { ecc: 'L', border: BORDER })
  if (!isColoured) return plain
  return plain
    .split('\n')
    .map((line) => `${LIGHT_ON_DARK}${line}${AS_BEFORE}`)
    .join('\n')
}
