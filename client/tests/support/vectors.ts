// Public test vectors: read from the folder that VALISE_VECTORS names, else from `../shared/vectors` beside the
// repository. They are never copied into it.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import { fromHex } from '@valise/protocol'

const folder = process.env['VALISE_VECTORS'] ?? fileURLToPath(new URL('../../../../shared/vectors', import.meta.url))

/** The parsed JSON of one file, compressed or not. */
export function readVectors(name: string): unknown {
  const bytes = readFileSync(join(folder, name))
  return JSON.parse((name.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8'))
}

export function bytesOf(hex: string): Uint8Array {
  const bytes = fromHex(hex)
  if (bytes === undefined) throw new Error('the vector is not hexadecimal')
  return bytes
}
