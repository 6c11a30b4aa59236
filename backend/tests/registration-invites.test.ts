// Registration by invitation (DEV-4): one invitation makes one user, on whichever node and however often it is shown at
// once; what fails does not use it up; and nobody can find one by trying.

import { createHash } from 'node:crypto'
import type { Register, ServerMessage } from '@valise/protocol'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { DeviceKeys } from '../../client/src/sealing/device-keys.ts'
import { inviteCommand } from '../src/admin/commands.ts'
import { openPostgres } from '../src/db/postgres.ts'
import { createKeys, openRegistration, register, sealGenesis } from './bad-input/entries.ts'
import { createCapturedParts } from './support/open-database.ts'
import type { RawSession } from './support/raw-device.ts'
import { startTestServer, type TestServer } from './support/server.ts'

interface Newcomer {
  readonly keys: DeviceKeys
  readonly genesis: Register
}

const meetNewcomer = async (): Promise<Newcomer> => {
  const keys = await createKeys('manager')
  return { keys, genesis: await sealGenesis(keys) }
}

const parse = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replaceAll('-', ''), 'hex'))
const answered = (message: ServerMessage): string => (message.type === 'error' ? message.code : message.type)

const registerOn = async (
  server: TestServer,
  { keys, genesis }: Newcomer,
  invitation?: Uint8Array,
): Promise<string> => {
  const session = await openRegistration(server, keys)
  const answer = await register(session, { ...genesis, ...(invitation === undefined ? {} : { invitation }) })
  await session.close()
  return answered(answer)
}

describe('DEV-4: two nodes that take new users by invitation', () => {
  let left: TestServer
  let right: TestServer
  let client: pg.Client

  beforeAll(async () => {
    const flags = { VALISE_REGISTRATION: 'invite' }
    left = await startTestServer({ database: 'postgres', flags })
    const { databaseUrl, identityFile } = left
    right = await startTestServer({ database: 'postgres', flags, databaseUrl: databaseUrl!, identityFile })
    client = new pg.Client({ connectionString: databaseUrl })
    await client.connect()
  })
  afterAll(async () => {
    await client?.end()
    await right?.close()
    await left?.close()
  })

  const invite = async (): Promise<Uint8Array> => {
    const { parts } = createCapturedParts()
    const db = await openPostgres({ ...parts, url: left.databaseUrl!, poolSize: 2 })
    const { invitations } = await inviteCommand.run(db, { count: 1, lifetimeMs: 60_000 })
    await db.close()
    return parse(invitations[0]!)
  }
  const countUsers = async (): Promise<number> =>
    (await client.query('select count(*)::integer as count from users')).rows[0].count

  test('DEV-4: an invitation is stored hashed, lets one user in, and is gone', async () => {
    const invitation = await invite()
    const hash = createHash('sha256').update(invitation).digest()
    const stored = 'select invitation_hash from invitations'
    expect((await client.query(stored)).rows).toEqual([{ invitation_hash: hash }])
    expect(await registerOn(left, await meetNewcomer(), invitation)).toBe('registered')
    expect((await client.query(stored)).rows).toEqual([])
  })

  test('DEV-4: two users with one invitation at once, on two nodes → one of them, each time', async () => {
    for (let round = 0; round < 3; round++) {
      const invitation = await invite()
      const before = await countUsers()
      const [one, other] = [await meetNewcomer(), await meetNewcomer()]
      const sessions = await Promise.all([openRegistration(left, one.keys), openRegistration(right, other.keys)])
      const answers = await Promise.all([
        register(sessions[0]!, { ...one.genesis, invitation }),
        register(sessions[1]!, { ...other.genesis, invitation }),
      ])
      expect(answers.map(answered).sort()).toEqual(['invitation_invalid', 'registered'])
      expect(await countUsers()).toBe(before + 1)
      await Promise.all(sessions.map((session) => session.close()))
    }
  })

  test('DEV-4: one key with one invitation, sent twice at once on two nodes → one user, and both are told so', async () => {
    const invitation = await invite()
    const before = await countUsers()
    const { keys, genesis } = await meetNewcomer()
    const sessions = await Promise.all([openRegistration(left, keys), openRegistration(right, keys)])
    // The session that began first may be superseded by the other before it is answered (SES-3).
    const answers = await Promise.allSettled(sessions.map((session) => register(session, { ...genesis, invitation })))
    const given = answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answered(answer.value)] : []))
    expect(given.length).toBeGreaterThan(0)
    expect(new Set(given)).toEqual(new Set(['registered']))
    expect(await countUsers()).toBe(before + 1)
    for (const session of sessions) session.drop()
  })

  test('DEV-4: a registration whose answer was lost is sent again, with the invitation it used up', async () => {
    const invitation = await invite()
    const newcomer = await meetNewcomer()
    expect(await registerOn(left, newcomer, invitation)).toBe('registered')
    expect(await registerOn(right, newcomer, invitation)).toBe('registered')
  })

  test('DEV-4: a registration that fails leaves the invitation for the next', async () => {
    const invitation = await invite()
    const newcomer = await meetNewcomer()
    const session = await openRegistration(left, newcomer.keys)
    const broken = newcomer.genesis.entry.slice()
    broken[40]! ^= 1
    expect(answered(await register(session, { ...newcomer.genesis, entry: broken, invitation }))).toBe(
      'device_log_refused',
    )
    const boxes = newcomer.genesis.boxes.map((box) => ({ ...box, box: new Uint8Array(64) }))
    expect(answered(await register(session, { ...newcomer.genesis, boxes, invitation }))).toBe('envelope_mismatch')
    await session.close()
    // A recovery device that is somebody's already fails inside the transaction.
    const recovery = await createKeys('recovery')
    const first = { keys: newcomer.keys, genesis: await sealGenesis(newcomer.keys, recovery) }
    expect(await registerOn(left, first, await invite())).toBe('registered')
    const keys = await createKeys('manager')
    expect(await registerOn(left, { keys, genesis: await sealGenesis(keys, recovery) }, invitation)).toBe(
      'device_log_refused',
    )
    expect(await registerOn(right, await meetNewcomer(), invitation)).toBe('registered')
  })

  test('DEV-4: unknown, used and expired invitations have one answer; none at all is told so', async () => {
    const used = await invite()
    expect(await registerOn(left, await meetNewcomer(), used)).toBe('registered')
    const expired = await invite()
    await client.query("update invitations set expires_at = now() - interval '1 second'")
    const before = await countUsers()
    for (const invitation of [used, expired, new Uint8Array(16)]) {
      expect(await registerOn(right, await meetNewcomer(), invitation)).toBe('invitation_invalid')
    }
    expect(await registerOn(right, await meetNewcomer())).toBe('registration_invite_required')
    expect(await countUsers()).toBe(before)
  })

  test('DEV-4: the eleventh wrong invitation of an address has to wait, a right one too, and is told how long', async () => {
    const server = await startTestServer({ database: 'pglite', flags: { VALISE_REGISTRATION: 'invite' } })
    const { keys, genesis } = await meetNewcomer()
    let session: RawSession | undefined
    try {
      session = await openRegistration(server, keys)
      const answers: string[] = []
      for (let i = 0; i < 11; i++) {
        answers.push(answered(await register(session, { ...genesis, invitation: new Uint8Array(16).fill(i) })))
      }
      expect(answers).toEqual([...Array.from({ length: 10 }, () => 'invitation_invalid'), 'rate_limited'])
      const last = await register(session, { ...genesis, invitation: new Uint8Array(16) })
      expect(last).toMatchObject({ code: 'rate_limited', retry_after_ms: expect.any(Number) })
      expect(await server.app.metrics.read('valise_rate_limited_total', { scope: 'invitation' })).toBe(2)
    } finally {
      session?.drop()
      await server.close()
    }
  })

  test('DEV-4: right invitations are not counted against their address', async () => {
    for (let i = 0; i < 12; i++) {
      expect(await registerOn(left, await meetNewcomer(), await invite())).toBe('registered')
    }
  })
})

describe('DEV-4: the mode of registration', () => {
  test.each([
    ['open', new Uint8Array(16), 'registered'],
    ['invite', undefined, 'registration_invite_required'],
    ['closed', new Uint8Array(16), 'registration_closed'],
  ])('DEV-4: %s, invitation %s → %s, and /.well-known/valise says the mode', async (mode, invitation, expected) => {
    const server = await startTestServer({ database: 'postgres', flags: { VALISE_REGISTRATION: mode } })
    try {
      expect(await registerOn(server, await meetNewcomer(), invitation)).toBe(expected)
      const response = await fetch(`${server.url.replace('ws', 'http')}/.well-known/valise`)
      expect(await response.json()).toMatchObject({ registration: mode })
    } finally {
      await server.close()
    }
  })
})
