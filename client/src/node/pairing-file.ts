// The file of a pairing under way in a device's home: sealed, for its owner alone (0600), written whole or not at all, and
// removed with the pairing.

import { open, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { PairingKeeper } from '../pairing/record.ts'
import type { AtRestSealer } from '../store/at-rest.ts'
import { DeviceHomeError } from './device-home-error.ts'
import { syncFolder } from './key-file.ts'

/** What the sealed bytes are bound to. */
const RECORD = 'pairing'

export function createPairingFile(path: string, sealer: AtRestSealer): PairingKeeper {
  const draft = `${path}.new`
  return {
    load: async () => {
      const sealed = await readFile(path).catch(absent)
      if (sealed === undefined) return undefined
      if (((await stat(path)).mode & 0o077) !== 0) {
        throw new DeviceHomeError(
          'unsafe_permissions',
          "Other users of this machine can read the device's pairing file; it must have mode 0600. Remove it and begin a new pairing.",
        )
      }
      return sealer.open(RECORD, new Uint8Array(sealed))
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

function absent(error: unknown): undefined {
  if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
  throw error
}
