// Reads the public test vectors from the folder that VALISE_VECTORS names, by default `shared/vectors` beside
// the repository. They are not part of it.

import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { fromHex } from '../../src/bytes.ts'

const FOLDER = process.env['VALISE_VECTORS'] ?? fileURLToPath(new URL('../../../../shared/vectors', import.meta.url))

export function readVectorFile(name: string): Buffer {
  try {
    return readFileSync(resolve(FOLDER, name))
  } catch (cause) {
    throw new Error(`cannot read the test vectors ${name}: set VALISE_VECTORS to their folder`, { cause })
  }
}

export interface WycheproofTest {
  readonly tcId: number
  readonly result: 'valid' | 'invalid' | 'acceptable'
}

export interface WycheproofGroup<Test extends WycheproofTest> {
  readonly tests: readonly Test[]
}

export function readWycheproof<Group extends WycheproofGroup<WycheproofTest>>(name: string): readonly Group[] {
  return (JSON.parse(readVectorFile(name).toString('utf8')) as { testGroups: Group[] }).testGroups
}

/** Hexadecimal text of a vector, which is always well-formed. */
export const hex = (text: string): Uint8Array => {
  const bytes = fromHex(text)
  if (bytes === undefined) throw new Error('a vector holds malformed hexadecimal text')
  return bytes
}
