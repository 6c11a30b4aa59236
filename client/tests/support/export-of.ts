// An export as its lines, and the check of it.

import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { checkExport } from '../../src/export/check-export.ts'
import { writeExport } from '../../src/export/write-export.ts'
import { createManualClock } from './manual-clock.ts'
import { sealer, type TestDevice } from './test-device.ts'

export const exportOf = async (
  { store, client }: TestDevice,
  streamNames: readonly string[] = [],
): Promise<string[]> => {
  const lines: string[] = []
  const parts = { store, sealer, crypto, clock: createManualClock(), device: client.device, streamNames }
  for await (const line of writeExport(parts)) lines.push(line)
  return lines
}

export async function* each(lines: readonly string[]): AsyncGenerator<string> {
  yield* lines
}

export const check = (lines: readonly string[]) => checkExport(crypto, each(lines))
