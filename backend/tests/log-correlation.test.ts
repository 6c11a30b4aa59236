// What a real server logs of one session, one device and one request: its lines are found together by their names, and
// none of the names is an id that a user, a device or a mailbox is known by elsewhere.

import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { hashForLog } from '../src/telemetry/log.ts'
import { createKeys, openRegistration, register, sealGenesis } from './bad-input/entries.ts'
import { findSecrets } from './blindness/search.ts'
import { createAccount, type TestAccount } from './support/account.ts'
import { createTestDatabase } from './support/database.ts'
import { type NodeProcess, startNodeProcess } from './support/node-process.ts'
import { waitFor } from './support/open-database.ts'
import type { RawSession } from './support/raw-device.ts'

type Line = Record<string, unknown> & { readonly event: string }

const ROTATE_AFTER_EVENTS = 10
const SETUP_MS = 60_000

const undo: (() => Promise<unknown>)[] = []
const texts: string[] = []
let lines: Line[]
let account: TestAccount
/** Of the two devices of the account, and of a device whose registration the database failed. */
let first: RawSession
let second: RawSession
let registering: RawSession
let registeringId: Uint8Array
const mailboxId = randomBytes(16)
/** From the answers to requests that the database failed. */
let requestIds: (string | null)[]

const linesWith = (name: string, value: unknown): Line[] => lines.filter((line) => line[name] === value)
const eventsOf = (found: readonly Line[]): string[] => found.map(({ event }) => event)
const sessionNameOf = ({ established }: RawSession): string => hashForLog(established.session_id)

async function startNode(): Promise<{ node: NodeProcess; databaseUrl: string }> {
  const database = await createTestDatabase()
  undo.push(database.drop)
  const dataDir = await mkdtemp(join(tmpdir(), 'valise-log-'))
  undo.push(() => rm(dataDir, { recursive: true, force: true }))
  const flags = {
    VALISE_LOG_LEVEL: 'debug',
    VALISE_SESSION_ROTATE_AFTER_EVENTS: String(ROTATE_AFTER_EVENTS),
    VALISE_DRAIN_MS: '0',
    PORT: '0',
    ADMIN_PORT: '0',
    DATABASE_URL: database.url,
    VALISE_DATA_DIR: dataDir,
  }
  const node = await startNodeProcess(flags, (line) => texts.push(line))
  undo.push(async () => {
    node.signal('SIGKILL')
    await node.exited
  })
  return { node, databaseUrl: database.url }
}

/** Whatever asks for these tables meanwhile fails. */
async function withoutTables(sql: pg.Client, names: readonly string[], work: () => Promise<void>): Promise<void> {
  for (const name of names) await sql.query(`alter table ${name} rename to hidden_${name}`)
  await work()
  for (const name of names) await sql.query(`alter table hidden_${name} rename to ${name}`)
}

beforeAll(async () => {
  const { node, databaseUrl } = await startNode()
  const sql = new pg.Client({ connectionString: databaseUrl })
  await sql.connect()
  undo.push(() => sql.end())
  account = await createAccount(node, { devices: 2 })
  const [one, two] = [account.devices[0]!, account.devices[1]!]
  first = await one.connect(node, { cursor: 0 })
  second = await two.connect(node, { cursor: 0, canRekey: false })
  const keys = await createKeys('manager')
  registeringId = keys.deviceId
  registering = await openRegistration(node, keys)
  const mailbox = `${node.url.replace('ws', 'http')}/v1/mailboxes/${mailboxId.toString('hex')}/0`

  await withoutTables(sql, ['device_log', 'pairings'], async () => {
    const failed = { type: 'error', code: 'unavailable' }
    for (const session of [first, second, second]) {
      expect(await session.ask({ type: 'fetch_device_log', request_id: 0, after_seq: null })).toMatchObject(failed)
    }
    expect(await register(registering, await sealGenesis(keys))).toMatchObject(failed)
    const answers = [await fetch(mailbox), await fetch(mailbox, { method: 'PUT', body: Uint8Array.of(1) })]
    expect(answers.map(({ status }) => status)).toEqual([503, 503])
    requestIds = answers.map(({ headers }) => headers.get('x-request-id'))
  })
  await withoutTables(sql, ['devices'], async () => {
    await expect(one.connect(node)).rejects.toThrow()
  })
  second.publish((await two.sealMany('notes', ROTATE_AFTER_EVENTS)).map(({ wire }) => wire))
  await second.closed
  first.socket.send(new Uint8Array(2 * first.established.limits.max_frame + 1))
  await first.closed
  await registering.close()
  const names = [first, second].map(sessionNameOf)
  const hasEnded = (text: string): boolean =>
    text.includes('gateway.session.end') && names.some((name) => text.includes(name))
  await waitFor(
    'both sessions to leave',
    async () => texts.filter(hasEnded).length,
    (count) => count === names.length,
  )
  node.signal('SIGTERM')
  expect(await node.exited).toBe(0)
  lines = texts.map((text) => JSON.parse(text))
}, SETUP_MS)

afterAll(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

test('SEE-5: the lines of a session are found by its name, and those of its socket and its device from there', () => {
  const ofFirst = linesWith('session', sessionNameOf(first))
  expect(eventsOf(ofFirst)).toEqual(['gateway.session.begin', 'gateway.session.fail', 'gateway.session.end'])
  const ofSecond = linesWith('session', sessionNameOf(second))
  expect(eventsOf(ofSecond)).toEqual([
    'gateway.session.begin',
    'gateway.session.fail',
    'gateway.session.fail',
    'gateway.session.rotate',
    'gateway.session.end',
  ])
  const devices = account.devices.map(({ deviceId }) => hashForLog(deviceId))
  expect(new Set(ofFirst.map(({ device }) => device))).toEqual(new Set([devices[0]]))
  expect(new Set(ofSecond.map(({ device }) => device))).toEqual(new Set([devices[1]]))

  const socketOf = ([begin]: readonly Line[]): Line[] => linesWith('connection', begin?.['connection'])
  expect(eventsOf(socketOf(ofFirst))).toEqual(['gateway.session.begin', 'gateway.socket.fail'])
  expect(eventsOf(socketOf(ofSecond))).toEqual(['gateway.session.begin', 'gateway.session.rotate'])

  const ofDevice = eventsOf(linesWith('device', devices[1]))
  expect(ofDevice).toEqual(eventsOf(ofSecond))
})

test('SEE-5: a registration that the database failed has its session and its device', () => {
  const found = linesWith('session', sessionNameOf(registering))
  expect(eventsOf(found)).toEqual(['gateway.session.begin', 'gateway.session.fail'])
  expect(found.map(({ device }) => device)).toEqual([hashForLog(registeringId), hashForLog(registeringId)])
})

test('SEE-5: a handshake that the database failed has its socket, which has nothing else', () => {
  const failed = lines.filter(({ event }) => event === 'gateway.handshake.fail')
  expect(failed).toHaveLength(1)
  expect(eventsOf(linesWith('connection', failed[0]?.['connection']))).toEqual(['gateway.handshake.fail'])
})

test('SEE-5: the line of a failed request is found by the id that its answer carries', () => {
  expect(new Set(requestIds).size).toBe(2)
  for (const id of requestIds) expect(eventsOf(linesWith('request', id))).toEqual(['http.request.fail'])
})

test('P1: no id of a user, a device, a session or a mailbox stands in the log, in any form', () => {
  const remains = new Map([['the log', texts.map((text) => Buffer.from(text))]])
  const ids = new Map<string, Uint8Array>([
    ['the user', account.userId],
    ['the first device', account.devices[0]!.deviceId],
    ['the second device', account.devices[1]!.deviceId],
    ['the device that registers', registeringId],
    ['the first session', first.established.session_id],
    ['the second session', second.established.session_id],
    ['the session that registers', registering.established.session_id],
    ['the mailbox', mailboxId],
    ['a stream', account.streamId('notes')],
  ])
  expect(findSecrets(ids, remains)).toEqual([])
  const names = new Map([['its name', Buffer.from(sessionNameOf(first), 'hex')]])
  expect(findSecrets(names, remains)).toEqual(['its name in the log'])
})
