// When a server drops key boxes: only those of which its device has shown that it holds the key.

import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Database, openPostgres } from '../src/db/postgres.ts'
import { appendEntry, authorOf, sealRotate } from './bad-input/entries.ts'
import { createAccount, type TestAccount, type TestDevice } from './support/account.ts'
import { createCapturedParts } from './support/open-database.ts'
import type { RawSession } from './support/raw-device.ts'
import { startTestServer, type TestServer } from './support/server.ts'

let server: TestServer
let db: Database
beforeAll(async () => {
  server = await startTestServer({ database: 'postgres' })
  db = await openPostgres({ ...createCapturedParts().parts, url: server.databaseUrl!, poolSize: 2 })
})
afterAll(async () => {
  await db?.close()
  await server?.close()
})

let account: TestAccount
let manager: TestDevice
let session: RawSession
beforeEach(async () => {
  account = await createAccount(server, { devices: 2 })
  ;[manager] = account.devices as [TestDevice]
  session = await manager.connect(server)
  return () => session.drop()
})

/** The second answer follows the drop that the first request causes. */
const fetchAfter = async (epoch: number): Promise<void> => {
  await session.ask({ type: 'fetch_envelopes', request_id: 0, after_epoch: epoch })
  await session.ask({ type: 'fetch_device_log', request_id: 0, after_seq: null })
}

async function keptEpochs(): Promise<number[]> {
  const rows = await db.query<{ epoch: number }>(
    { name: '', text: 'select epoch from key_envelopes where user_id = $1 and device_id = $2 order by epoch' },
    [account.userId, manager.deviceId],
  )
  return rows.map(({ epoch }) => epoch)
}

describe('the boxes of a device', () => {
  test('DEV-18: of epochs that it links itself are dropped, and that of an epoch it could not open stays', async () => {
    await appendEntry(account, session, await sealRotate(account, authorOf(manager), [1]))
    await fetchAfter(0)
    expect(await keptEpochs()).toEqual([2])
    // Epoch 2 does not open: the next one links epoch 1 only.
    await appendEntry(account, session, await sealRotate(account, authorOf(manager), [1]))
    await fetchAfter(1)
    expect(await keptEpochs()).toEqual([2, 3])
  })

  test('DEV-18: stay while it asks for page after page, until it asks again with all of them stored', async () => {
    const epochs = 150
    await db.query(
      {
        name: '',
        text: `
          with made as (
            insert into key_epochs (user_id, epoch, log_seq)
            select $1, n, 1
            from generate_series(2, $3::integer) as n
          )
          insert into key_envelopes (user_id, device_id, epoch, box)
          select $1, $2, n, '\\x00'
          from generate_series(2, $3::integer) as n`,
      },
      [account.userId, manager.deviceId, epochs],
    )
    const first = await session.ask({ type: 'fetch_envelopes', request_id: 0, after_epoch: 0 })
    if (first.type !== 'envelopes' || first.is_last) throw new Error('one page holds all')
    const newest = first.boxes.at(-1)!.epoch
    await fetchAfter(newest)
    expect(await keptEpochs()).toHaveLength(epochs)
    await fetchAfter(newest)
    expect(await keptEpochs()).toHaveLength(epochs - newest)
  })
})
