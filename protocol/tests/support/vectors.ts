// Reads the figures of published test vectors that stand in tests/public-vectors; its README says where they are from.

import { readFileSync } from 'node:fs'
import { fromHex } from '../../src/bytes.ts'

export interface WycheproofTest {
  readonly tcId: number
  readonly result: 'valid' | 'invalid' | 'acceptable'
}

interface Figures {
  readonly columns: readonly string[]
  readonly rows: readonly (readonly unknown[])[]
}

/** The tests of one set, each an object with a field for every column. */
export function readFigures<Test>(name: string): readonly Test[] {
  const text = readFileSync(new URL(`../public-vectors/${name}.json`, import.meta.url), 'utf8')
  const { columns, rows } = JSON.parse(text) as Figures
  return rows.map((row) => Object.fromEntries(columns.map((column, index) => [column, row[index]])) as Test)
}

/** Hexadecimal text of a vector, which is always well-formed. */
export const hex = (text: string): Uint8Array => {
  const bytes = fromHex(text)
  if (bytes === undefined) throw new Error('a vector holds malformed hexadecimal text')
  return bytes
}
