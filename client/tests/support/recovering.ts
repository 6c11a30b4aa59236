// A device that gets the account back with the phrase, on a machine that has nothing else.

import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { recoverAccount } from '../../src/account/recover-account.ts'
import { toRecoveryKeys } from '../../src/account/recovery-sheet.ts'
import type { Client } from '../../src/client.ts'
import { noLog } from '../../src/client-log.ts'
import { openClient } from '../../src/open-client.ts'
import { createMemoryStore } from '../../src/store/memory-store.ts'
import { parts, sealer } from './test-device.ts'
import type { TestServer } from './test-server.ts'

/** Live, as a new manager. */
export async function recoverClient(server: TestServer, phrase: string): Promise<Client> {
  const store = createMemoryStore()
  const identity = (await recoverAccount(parts(server, store), {
    server: { url: 'ws://server.test', fingerprint: server.fingerprint },
    recovery: await toRecoveryKeys(crypto, phrase),
    name: 'new',
    platform: 'test',
    confirm: async () => true,
    signal: undefined,
  }))!
  const client = await openClient({
    ...parts(server, store),
    sealer,
    identity,
    random: () => 0,
    log: noLog,
    checkpointEvery: 0,
  })
  client.start()
  await client.whenLive()
  return client
}
