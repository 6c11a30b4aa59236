// How sessions begin and end when beginnings overlap and the server stops, through real sockets (SES-3, SES-5).

import pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Bus } from '../src/bus/bus.ts'
import { follow, roundTrip } from './event-ordering/publishing.ts'
import { createAccount } from './support/account.ts'
import { waitFor } from './support/open-database.ts'
import { dial, type RawSession } from './support/raw-device.ts'
import { startTestServer, type TestServer } from './support/server.ts'
import { countWaitingForNumbers, readSessionNumbers, untilSwept } from './support/session-numbers.ts'

/** A bus whose subscriptions stand only when they are let through, so that sessions stay half open. */
function createGatedBus() {
  let gate = Promise.resolve()
  let open = (): void => {}
  return {
    wrap: (bus: Bus): Bus => ({
      ...bus,
      get isHealthy() {
        return bus.isHealthy
      },
      subscribe: async (userId, handler, context) => {
        await gate
        return bus.subscribe(userId, handler, context)
      },
    }),
    shut: () => {
      gate = new Promise((resolve) => {
        open = resolve
      })
    },
    open: () => open(),
  }
}

async function stayingOne(sessions: readonly RawSession[]): Promise<RawSession> {
  const ended = await Promise.race(sessions.map((session) => session.closed.then(() => session)))
  expect(ended.closeFrame?.code ?? (await ended.closed).code).toBe(4405)
  return sessions.find((session) => session !== ended)!
}

describe('sessions of a device and the end of a node', () => {
  const bus = createGatedBus()
  let server: TestServer

  beforeEach(async () => {
    server = await startTestServer({ database: 'postgres', bus: bus.wrap })
  })
  afterEach(async () => {
    bus.open()
    await server?.close()
  })

  test('SES-3: a session that was superseded while it began never ends the newer one', async () => {
    const device = (await createAccount(server)).devices[0]!
    bus.shut()
    const beginning = [0, 1].map(() => device.connect(server).catch((error: Error) => error))
    bus.open()
    const outcomes = await Promise.all(beginning)
    const sessions = outcomes.filter((outcome): outcome is RawSession => !(outcome instanceof Error))
    // The older one learns it while it begins or right after, depending on which hears the database first.
    const newer = sessions.length === 1 ? sessions[0]! : await stayingOne(sessions)
    await roundTrip(newer)
    expect(newer.closeFrame).toBeUndefined()
  })

  test('SES-3: sessions whose sockets go while the database numbers them end no session that lives', async () => {
    const [device, other] = (await createAccount(server, { devices: 2 })).devices
    const living = await follow(server, device!)
    const holder = new pg.Client({ connectionString: server.databaseUrl })
    await holder.connect()
    try {
      const before = await readSessionNumbers(holder, device!)
      await holder.query('begin')
      await holder.query('select 1 from devices for update')
      const cut = new AbortController()
      const dials = [0, 1].map(() => device!.connect(server, { signal: cut.signal }).catch((error: Error) => error))
      await waitFor(
        'both to wait for a number',
        () => countWaitingForNumbers(holder),
        (waiting) => waiting === 2,
      )
      cut.abort()
      for (const dying of dials) expect(await dying).toBeInstanceOf(Error)
      const countOpen = (): Promise<number> => server.app.metrics.read('valise_connections')
      await waitFor('the end of the sockets', countOpen, (open) => open === 1)
      await holder.query('commit')
      await waitFor(
        'both numbers',
        () => readSessionNumbers(holder, device!),
        ({ given }) => given === before.given + 2,
      )
      await untilSwept(server, holder, other!)
      await roundTrip(living)
      expect(living.closeFrame).toBeUndefined()
      expect((await readSessionNumbers(holder, device!)).begun).toBe(before.given)
    } finally {
      await holder.end()
    }
  })

  test('SES-5: a node that stops takes no new socket, and waits for none', async () => {
    const device = (await createAccount(server)).devices[0]!
    const session = await follow(server, device)
    // A peer that does not answer the close frame keeps the node waiting.
    session.socket.pause()
    const stopping = server.stop()
    await expect(dial(server.url)).rejects.toThrow('could not be opened')
    session.socket.resume()
    expect((await session.closed).code).toBe(1012)
    await stopping
  })
})
