// What a running server writes into its audit log while accounts come, change and go (AUD-1, AUD-2).

import { once } from 'node:events'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { type AuditRecord, SERVER_CHAIN } from '../src/audit/audit-record.ts'
import { verifyAudit } from '../src/audit/verify-audit.ts'
import { type Database, openPostgres } from '../src/db/postgres.ts'
import { readAuditPage } from '../src/db/queries/audit.ts'
import { hashForLog } from '../src/telemetry/log.ts'
import {
  appendEntry,
  authorOf,
  createKeys,
  openRegistration,
  register,
  sealAdd,
  sealClose,
  sealGenesis,
  sealRevoke,
  sealRotate,
} from './bad-input/entries.ts'
import { createAccount, type TestDevice } from './support/account.ts'
import { createTestDatabase, type TestDatabase } from './support/database.ts'
import { createCapturedParts } from './support/open-database.ts'
import { startTestServer, type TestServer } from './support/server.ts'

let database: TestDatabase
let server: TestServer
let db: Database
beforeAll(async () => {
  database = await createTestDatabase()
  server = await startTestServer({
    database: 'postgres',
    databaseUrl: database.url,
    flags: { VALISE_REGISTRATION: 'open', VALISE_HANDSHAKES_BURST: '50' },
  })
  db = await openPostgres({ ...createCapturedParts().parts, url: database.url, poolSize: 2 })
})
afterAll(async () => {
  await server?.close()
  await db?.close()
  await database?.drop()
})

const recordsOf = async (userId: Uint8Array): Promise<AuditRecord[]> =>
  (await readAuditPage(db, { userId: SERVER_CHAIN, seq: 0 }, 10_000)).filter((record) =>
    Buffer.from(record.userId).equals(userId),
  )
const wordsOf = (records: readonly AuditRecord[]): unknown[] => records.map(({ kind, detail }) => [kind, detail])

test('AUD-1: an account is told from its registration to its end, and takes its chain with it', async () => {
  const account = await createAccount(server, { devices: 2 })
  const [manager, member] = account.devices as [TestDevice, TestDevice]
  const author = authorOf(manager)
  const session = await manager.connect(server)
  await appendEntry(account, session, await sealRotate(account, author))
  await appendEntry(account, session, await sealRevoke(account, author, [member]))
  const newcomer = await createKeys('manager')
  await appendEntry(account, session, await sealAdd(account, author, newcomer))
  expect(wordsOf(await recordsOf(account.userId))).toEqual([
    ['user.register', { devices: 1 }],
    ['device.approve', { log_seq: 1, device: hashForLog(member.deviceId), role: 1 }],
    ['epoch.rotate', { log_seq: 2, epoch: 2 }],
    ['device.revoke', { log_seq: 3, device: hashForLog(member.deviceId) }],
    ['device.approve', { log_seq: 4, device: hashForLog(newcomer.deviceId), role: 2 }],
  ])

  await appendEntry(account, session, await sealClose(account.log, author))
  expect(await recordsOf(account.userId)).toEqual([])
  const ends = (await recordsOf(SERVER_CHAIN)).filter(({ kind }) => kind === 'account.delete')
  expect(ends.map(({ detail }) => detail)).toEqual([{ user: hashForLog(account.userId) }])
})

test('AUD-1: an entry that is refused leaves no record', async () => {
  const keys = await createKeys('manager')
  const genesis = await sealGenesis(keys)
  const session = await openRegistration(server, keys)
  const before = await readAuditPage(db, { userId: SERVER_CHAIN, seq: 0 }, 10_000)
  expect((await register(session, { ...genesis, boxes: [] })).type).toBe('error')
  expect(await readAuditPage(db, { userId: SERVER_CHAIN, seq: 0 }, 10_000)).toEqual(before)
  session.drop()
})

test('AUD-2: each start says under which settings, and never where anything is; sums are written before the end', async () => {
  const [first] = await recordsOf(SERVER_CHAIN)
  expect(first).toMatchObject({ kind: 'server.start', detail: { registration: 'open', database: 'postgres' } })
  const stranger = new WebSocket(server.url)
  stranger.on('open', () => stranger.send('who are you?'))
  await once(stranger, 'close')
  await server.restart()
  const said = await recordsOf(SERVER_CHAIN)
  expect(said.filter(({ kind }) => kind === 'server.start')).toHaveLength(2)
  const refused = said.filter(({ kind }) => kind === 'handshakes.refuse')
  expect(refused.map(({ detail }) => detail)).toEqual([{ handshake_failed: 1 }])
  const text = JSON.stringify(said.map(({ detail }) => detail))
  for (const place of ['127.0.0.1', 'localhost', '://', '/']) expect(text).not.toContain(place)
  for await (const report of verifyAudit((after, limit) => readAuditPage(db, after, limit))) {
    expect(report.fault).toBeUndefined()
  }
})
