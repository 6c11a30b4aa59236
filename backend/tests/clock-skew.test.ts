// Devices whose clock is a day behind or ahead, at a real server with a right one: what must work works, and what time
// forbids is forbidden by the server's clock, in words that a person gets.

import { createHash, randomBytes } from 'node:crypto'
import { formatUuid } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createAccount } from '../../client/src/account/create-account.ts'
import type { Identity } from '../../client/src/account/identity.ts'
import { SetupError } from '../../client/src/account/setup-error.ts'
import type { Client } from '../../client/src/client.ts'
import { type Clock, systemClock } from '../../client/src/clock.ts'
import { createWsTransport } from '../../client/src/node/ws-transport.ts'
import { openClient } from '../../client/src/open-client.ts'
import type { PublishReceipt } from '../../client/src/publish/publisher.ts'
import { createAtRestSealer } from '../../client/src/store/at-rest.ts'
import { createMemoryStore } from '../../client/src/store/memory-store.ts'
import { waitFor } from './support/open-database.ts'
import { type Inviter, pairOverServer } from './support/pair-over-server.ts'
import { startTestServer, type TestServer } from './support/server.ts'

const DAY_MS = 86_400_000
/** No clock of this test is right to less. */
const HOUR_MS = 3_600_000

const offClock = (byMs: number): Clock => ({ ...systemClock, now: () => Date.now() + byMs })

let server: TestServer
let database: pg.Client
const open: Client[] = []
beforeAll(async () => {
  const flags = { VALISE_REGISTRATION: 'invite', VALISE_RETENTION_INTERVAL_MS: '50' }
  server = await startTestServer({ database: 'postgres', flags })
  database = new pg.Client({ connectionString: server.databaseUrl })
  await database.connect()
})
afterAll(async () => {
  for (const client of open) await client.close()
  await database?.end()
  await server?.close()
})

async function invite(lifetimeMs = DAY_MS): Promise<Uint8Array> {
  const invitation = new Uint8Array(randomBytes(16))
  const hash = createHash('sha256').update(invitation).digest()
  await database.query(
    `insert into invitations (invitation_hash, expires_at) values ($1, now() + make_interval(secs => $2))`,
    [hash, lifetimeMs / 1000],
  )
  return invitation
}

const pinOf = () => ({ url: server.url, fingerprint: server.fingerprint })
const newParts = (clock: Clock) => ({
  store: createMemoryStore(),
  sealer: createAtRestSealer(crypto.randomBytes(32), crypto),
  transport: createWsTransport({ maxFrameBytes: 2 ** 20 }),
  crypto,
  clock,
  clientInfo: 'test',
})

async function registerAt(clock: Clock, invitation: Uint8Array) {
  const parts = newParts(clock)
  const { identity } = await createAccount(parts, {
    server: pinOf(),
    name: 'first',
    platform: 'test',
    invitation,
    signal: undefined,
  })
  return { parts, identity }
}

interface Device extends Inviter {
  readonly bodies: string[]
  readonly receipts: PublishReceipt[]
}

/** A checkpoint with every event it learns of. */
async function start(parts: ReturnType<typeof newParts>, identity: Identity): Promise<Device> {
  const client = await openClient({ ...parts, identity, random: () => 0, log: () => {}, checkpointEvery: 1 })
  open.push(client)
  const bodies: string[] = []
  const receipts: PublishReceipt[] = []
  client.onReceipt((receipt) => receipts.push(receipt))
  const read = async (): Promise<void> => {
    for await (const { content } of client.events('notes')) bodies.push(new TextDecoder().decode(content.body))
  }
  client.start()
  await client.whenLive()
  // Its end is seen in the client's state.
  read().catch(() => {})
  return { client, identity, bodies, receipts }
}

const publish = ({ client }: Device, text: string, ttlS = 0) =>
  client.publish('notes', { type: 'text', body: new TextEncoder().encode(text) }, { ttlS })
const waitForBodies = (device: Device, bodies: readonly string[]) =>
  waitFor(
    `all of ${bodies}`,
    async () => device.bodies.join(),
    (all) => all === bodies.join(),
  )

/** Another device of the account, started. */
async function addDevice(
  existing: Device,
  clocks: { readonly existing: Clock; readonly fresh: Clock },
): Promise<Device> {
  const { outcomes, identity } = await pairOverServer(existing, clocks)
  expect(outcomes).toEqual(['added', 'admitted'])
  return start(newParts(clocks.fresh), identity)
}

const isEqualTo = (text: string) => (other: unknown) => other === text

const codeOf = async (attempt: Promise<unknown>): Promise<string> => {
  const error = await attempt.then(
    () => undefined,
    (failure: unknown) => failure,
  )
  return error instanceof SetupError ? error.code : String(error)
}

describe.each([
  ['behind', -DAY_MS],
  ['ahead', DAY_MS],
])('a clock that is a day %s', (_, byMs) => {
  const wrong = offClock(byMs)

  test('DEV-12: registers, pairs in both directions, publishes and reads, and nobody is alarmed', async () => {
    const { parts, identity } = await registerAt(wrong, await invite())
    const first = await start(parts, identity)
    const second = await addDevice(first, { existing: wrong, fresh: systemClock })
    const third = await addDevice(first, { existing: wrong, fresh: offClock(-byMs) })
    const devices = [first, second, third]

    for (const writer of devices) {
      const text = String(devices.indexOf(writer))
      await publish(writer, text)
      // One after the other, so that there is one order.
      for (const reader of devices)
        if (reader !== writer) await waitFor(text, async () => reader.bodies.at(-1), isEqualTo(text))
    }
    expect(devices.map(({ bodies }) => bodies.join())).toEqual(['1,2', '0,2', '0,1'])
    // Stored by the server's clock, whatever the writer's says.
    for (const { receipts } of devices) {
      expect(receipts.length).toBeGreaterThan(0)
      for (const { storedAtMs } of receipts) expect(Math.abs(storedAtMs - Date.now())).toBeLessThan(HOUR_MS)
    }
    // Each has published checkpoints, and read those of the others, to the head.
    const counted = 'select count(*)::int as count from events where user_id = $1'
    expect((await database.query(counted, [identity.userId])).rows[0].count).toBeGreaterThan(devices.length)
    for (const { client } of devices) expect(client.state().type).toBe('live')
    // No epoch is due a day after, nor a day before, it began.
    for (const { client } of devices) expect(client.device.book.require().epoch.n).toBe(1)
  })

  test('DEV-12, RET-1: a lifetime counts by the server’s clock, whichever clock the writer and the reader have', async () => {
    const { parts, identity } = await registerAt(wrong, await invite())
    const first = await start(parts, identity)
    const reader = await addDevice(first, { existing: wrong, fresh: systemClock })
    await publish(first, 'for an hour', 3600)
    await publish(first, 'for a second', 1)
    await publish(reader, 'for an hour, too', 3600)
    // The other may be over before it is read.
    await waitFor('an event', async () => reader.bodies.includes('for an hour'), Boolean)
    await waitForBodies(first, ['for an hour, too'])
    const rowsOf = () =>
      database.query<{ is_gone: boolean; seconds: number }>(
        `select wire is null as is_gone, extract(epoch from expires_at - stored_at)::int as seconds
         from events where user_id = $1 and expires_at is not null order by user_seq`,
        [identity.userId],
      )
    const { rows } = await waitFor('the second to be over', rowsOf, ({ rows }) => rows.some(({ is_gone }) => is_gone))
    expect(rows).toEqual([
      { is_gone: false, seconds: 3600 },
      { is_gone: true, seconds: 1 },
      { is_gone: false, seconds: 3600 },
    ])
    const last = await addDevice(first, { existing: wrong, fresh: wrong })
    await waitForBodies(last, ['for an hour', 'for an hour, too'])
    expect(last.client.state().type).toBe('live')
  })

  test('DEV-12: it revokes another and is revoked: cut off at once, with the code that says so', async () => {
    const { parts, identity } = await registerAt(wrong, await invite())
    const first = await start(parts, identity)
    const victims: Device[] = []
    for (const clock of [systemClock, wrong]) {
      const victim = await addDevice(first, { existing: wrong, fresh: clock })
      victims.push(victim)
      await publish(victim, formatUuid(victim.identity.deviceId))
      await victim.client.flush()
    }
    for (const victim of victims) {
      await first.client.revokeDevices({ deviceIds: [victim.identity.deviceId], reason: 'lost' })
      await waitFor(
        'the end of the revoked device',
        async () => victim.client.state().type,
        (type) => type === 'stopped',
      )
      expect(victim.client.state()).toMatchObject({ cause: { type: 'refused', code: 'device_revoked' } })
    }
    // What both had written before stays good.
    await waitForBodies(
      first,
      victims.map((victim) => formatUuid(victim.identity.deviceId)),
    )
    expect(first.client.device.book.require().epoch.n).toBe(3)
    await publish(first, 'under new keys')
    await first.client.flush()
  })

  test('DEV-12, DEV-4: an invitation that is over opens nothing, and one that is not does', async () => {
    expect(await codeOf(registerAt(wrong, await invite(-1)))).toBe('invitation_refused')
    expect(await codeOf(registerAt(wrong, await invite(60_000)))).toBe('undefined')
  })

  test('DEV-12, PAIR-6: a code that was shown for too long is refused by the server’s clock', async () => {
    const { parts, identity } = await registerAt(systemClock, await invite())
    const first = await start(parts, identity)
    const clocks = { existing: systemClock, fresh: wrong }
    const ageBy = (seconds: number) => async () => {
      await database.query(
        'update pairing_mailboxes set opened_at = opened_at - make_interval(secs => $1) where joiner_hash is null',
        [seconds],
      )
    }
    expect(await codeOf(pairOverServer(first, clocks, ageBy(301)))).toBe('pairing_refused')
    expect((await pairOverServer(first, clocks, ageBy(200))).outcomes).toEqual(['added', 'admitted'])
  })
})
