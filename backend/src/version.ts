// The version of this server, as its manifest has it.

import { readFileSync } from 'node:fs'
import { z } from 'zod'

const manifestSchema = z.object({ version: z.string() })

export function readVersion(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  return manifestSchema.parse(JSON.parse(text)).version
}
