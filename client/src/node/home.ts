// The folder of a device on Node: a store, the key that seals what must not lie open in it, and how the parts of a
// client are filled on this platform.

import { arch, platform } from 'node:os'
import { join } from 'node:path'
import { DEFAULT_LIMITS } from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { loadRevoked } from '../account/forget-account.ts'
import type { Identity } from '../account/identity.ts'
import { AlarmError } from '../alarm.ts'
import type { Client } from '../client.ts'
import type { ClientLog } from '../client-log.ts'
import { systemClock } from '../clock.ts'
import { openClient } from '../open-client.ts'
import { createAtRestSealer } from '../store/at-rest.ts'
import { DeviceHomeError } from './device-home-error.ts'
import { openFileStore } from './file-store.ts'
import { destroyKeyFile, openKeyFile } from './key-file.ts'
import { createPairingFile } from './pairing-file.ts'
import { makePrivateFolder } from './private-file.ts'
import { createWsTransport } from './ws-transport.ts'

const KEY_FILE = 'storage.key'
const STORE_FOLDER = 'store'
const PAIRING_FILE = 'pairing'
/** Room for the largest frame and the overhead of its sealing. */
const MAX_FRAME_BYTES = DEFAULT_LIMITS.max_frame + 1024

export interface HomeOptions {
  readonly log: ClientLog
  readonly checkpointEvery: number
}

/** Rejects with a `DeviceHomeError`. */
export async function openHome(dir: string, { log, checkpointEvery }: HomeOptions) {
  await makePrivateFolder(dir)
  // The store first: its lock keeps a second process from everything else.
  const store = await openFileStore(join(dir, STORE_FOLDER))
  try {
    // An erasing that was interrupted is finished first.
    if ((await loadRevoked(store)) !== undefined) await destroyKeyFile(join(dir, KEY_FILE))
    const sealer = createAtRestSealer(await openKeyFile(join(dir, KEY_FILE)), nodeCrypto)
    const platformParts = {
      store,
      sealer,
      crypto: nodeCrypto,
      clock: systemClock,
      transport: createWsTransport({ maxFrameBytes: MAX_FRAME_BYTES }),
      clientInfo: `node ${process.versions.node}`,
    }
    const keeper = createPairingFile(join(dir, PAIRING_FILE), sealer)
    return {
      ...platformParts,
      keeper,
      openClient: (identity: Identity): Promise<Client> =>
        openClient({
          ...platformParts,
          random: Math.random,
          identity,
          log,
          checkpointEvery,
          onErased: async () => {
            await keeper.forget()
            await destroyKeyFile(join(dir, KEY_FILE))
          },
        }).catch(toHomeError),
      /** What the store held opens no more. */
      destroyKey: () => destroyKeyFile(join(dir, KEY_FILE)),
      close: () => store.close(),
    }
  } catch (error) {
    await store.close()
    throw error
  }
}

/** What is shown of this machine to the user's other devices. */
export const describePlatform = (): string => `${platform()} ${arch()}`

export function toHomeError(error: unknown): never {
  if (!(error instanceof AlarmError)) throw error
  const { text, remedy } = error.alarm
  throw new DeviceHomeError('damaged', `${text}. ${remedy}`, { cause: error })
}
