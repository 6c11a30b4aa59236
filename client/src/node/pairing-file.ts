// The file of a pairing under way in a device's home: sealed, for its owner alone (0600), written whole or not at all, and
// removed with the pairing.

import { open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { PairingKeeper } from '../pairing/record.ts'
import type { AtRestSealer } from '../store/at-rest.ts'
import { syncFolder } from './key-file.ts'
import { readPrivateFile } from './private-file.ts'

/** What the sealed bytes are bound to. */
const RECORD = 'pairing'

export function createPairingFile(path: string, sealer: AtRestSealer): PairingKeeper {
  const draft = `${path}.new`
  return {
    load: async () => {
      const sealed = await readPrivateFile(path)
      return sealed === undefined ? undefined : sealer.open(RECORD, sealed)
    },
    save: async (record) => {
      await rm(draft, { force: true })
      const file = await open(draft, 'wx', 0o600)
      try {
        await file.writeFile(sealer.seal(RECORD, record))
        await file.sync()
      } finally {
        await file.close()
      }
      await rename(draft, path)
      await syncFolder(dirname(path))
    },
    forget: async () => {
      await rm(draft, { force: true })
      await rm(path, { force: true })
      await syncFolder(dirname(path))
    },
  }
}
