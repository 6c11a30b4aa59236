// A backup of the database is put back, on a real PostgreSQL and under the product's own devices: they notice, say so,
// keep what they have, and publish again what the server lost, until every device holds the same log with nothing lost.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { toHex } from '@valise/protocol'
import pg from 'pg'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Client, ClientStoppedError } from '../../client/src/index.ts'
import { type NodeDevice, openNodeDevice } from '../../client/src/node/index.ts'
import { restoredCommand } from '../src/admin/restored-command.ts'
import { openPostgres } from '../src/db/postgres.ts'
import { createTestDatabase, type TestDatabase } from './support/database.ts'
import { createCapturedParts, waitFor } from './support/open-database.ts'
import { startTestServer, type TestServer } from './support/server.ts'

const DEADLINE_MS = 60_000
const textOf = (body: Uint8Array): string => new TextDecoder().decode(body)

interface Scene {
  readonly server: TestServer
  readonly homes: { readonly laptop: string; readonly phone: string }
  /** Copies the database aside, while the server is stopped for a moment. */
  backUp(): Promise<void>
  /** Puts the copy back, likewise. */
  putBack(options: { isSaid: boolean }): Promise<void>
}

describe('a backup that was put back', () => {
  let database: TestDatabase
  let server: TestServer
  let scene: Scene
  let folder: string

  beforeEach(async () => {
    database = await createTestDatabase()
    folder = await mkdtemp(join(tmpdir(), 'valise-restored-'))
    server = await startTestServer({ database: 'postgres', databaseUrl: database.url })
    const name = new URL(database.url).pathname.slice(1)
    const onServer = async (...statements: string[]): Promise<void> => {
      const url = new URL(database.url)
      url.pathname = '/postgres'
      const client = new pg.Client({ connectionString: url.href })
      await client.connect()
      try {
        for (const statement of statements) await client.query(statement)
      } finally {
        await client.end()
      }
    }
    scene = {
      server,
      homes: { laptop: join(folder, 'laptop'), phone: join(folder, 'phone') },
      backUp: async () => {
        await server.stop()
        await onServer(`create database ${name}_backup template ${name}`)
        await server.start()
      },
      putBack: async ({ isSaid }) => {
        await server.stop()
        await onServer(
          `drop database ${name} with (force)`,
          `create database ${name} template ${name}_backup`,
          `drop database ${name}_backup`,
        )
        if (isSaid) {
          const db = await openPostgres({ ...createCapturedParts().parts, url: database.url, poolSize: 2 })
          await restoredCommand.run(db, {})
          await db.close()
        }
        await server.start()
      },
    }
  }, DEADLINE_MS)

  afterEach(async () => {
    await server?.close()
    await database?.drop()
    await rm(folder, { recursive: true, force: true })
  })

  const open = (home: string): Promise<NodeDevice> => openNodeDevice(home, { checkpointEvery: 3 })

  const withDevices = async (work: (laptop: NodeDevice, phone: NodeDevice) => Promise<void>): Promise<void> => {
    const laptop = await open(scene.homes.laptop)
    const phone = await open(scene.homes.phone)
    try {
      await work(laptop, phone)
    } finally {
      await laptop.close()
      await phone.close()
    }
  }

  const publish = (client: Client, text: string, ttlS = 0) =>
    client.publish('notes', { type: 'text', body: new TextEncoder().encode(text) }, { ttlS })

  /** Everything this device holds in the stream, in its order: place, event and text. */
  const held = async (device: NodeDevice): Promise<{ place: string; text: string }[]> => {
    const events: { place: string; text: string }[] = []
    for await (const { userSeq, eventId, content } of device.client().device.reader.stored('notes')) {
      events.push({ place: `${userSeq} ${toHex(eventId)}`, text: textOf(content.body) })
    }
    return events
  }

  const linkPhone = async (): Promise<void> =>
    withDevices(async (laptop, phone) => {
      await laptop.initialise({ serverUrl: server.url, name: 'laptop' })
      let request = ''
      const linking = phone.link({
        serverUrl: server.url,
        name: 'phone',
        onRequest: ({ text }) => {
          request = text
        },
      })
      await waitFor(
        'the request',
        async () => request,
        (text) => text !== '',
      )
      await laptop.approve({ request, confirm: async () => true })
      await linking
    })

  /** Both publish in turns, and hold all of it at the end. */
  const publishInTurns = (label: string, count: number): Promise<void> =>
    withDevices(async (laptop, phone) => {
      const before = (await held(laptop)).length
      const clients = [laptop.client(), phone.client()]
      for (const client of clients) client.start()
      for (const client of clients) await client.whenLive()
      for (let i = 0; i < count; i++) {
        for (const [index, client] of clients.entries()) {
          await publish(client, `${label} ${index} ${i}`)
          await client.flush()
        }
      }
      for (const device of [laptop, phone]) {
        await waitFor(
          'all events',
          () => held(device),
          (events) => events.length === before + 2 * count,
        )
      }
    })

  const stopCodeOf = async (client: Client): Promise<string> => {
    client.start()
    const error: unknown = await client.whenLive(AbortSignal.timeout(DEADLINE_MS)).then(
      () => new Error('the client went live'),
      (reason: unknown) => reason,
    )
    if (!(error instanceof ClientStoppedError) || error.stopCause.type !== 'alarm') throw error
    return error.stopCause.alarm.code
  }

  /** The user accepts; the device publishes again what was lost. */
  const republish = async (device: NodeDevice): Promise<Awaited<ReturnType<NodeDevice['acceptLog']>>> => {
    const accepted = await device.acceptLog()
    const client = device.client()
    client.start()
    await client.whenLive(AbortSignal.timeout(DEADLINE_MS))
    await client.flush(AbortSignal.timeout(DEADLINE_MS))
    return accepted
  }

  const expectOneLog = async (devices: readonly NodeDevice[], count: number): Promise<string[]> => {
    const [first, ...others] = devices
    const sameAs = async (): Promise<boolean> => {
      const logs = await Promise.all([first!, ...others].map(held))
      return logs.every((log) => JSON.stringify(log) === JSON.stringify(logs[0]) && log.length === count)
    }
    await waitFor('every device to hold the same log', sameAs, (isSame) => isSame)
    for (const device of devices) {
      expect(await device.verify()).toMatchObject({ isSound: true, problems: [] })
      expect(await device.status()).toMatchObject({ lostLog: undefined, missingEvents: 0, outboxEvents: 0 })
    }
    return (await held(first!)).map(({ text }) => text)
  }

  test.each([
    { isSaid: true, codes: ['log_epoch_changed'] },
    { isSaid: false, codes: ['cursor_beyond_head', 'receipts_withdrawn'] },
  ])(
    'RET-5, RET-6: said by the operator: $isSaid; devices stop, keep their outbox, and lose nothing in the end',
    {
      timeout: 4 * DEADLINE_MS,
    },
    async ({ isSaid, codes }) => {
      await linkPhone()
      await publishInTurns('kept', 4)
      await scene.backUp()
      await publishInTurns('lost', 5)
      await withDevices(async (laptop) => {
        await publish(laptop.client(), 'waiting')
      })
      await scene.putBack({ isSaid })

      await withDevices(async (laptop, phone) => {
        expect(codes).toContain(await stopCodeOf(laptop.client()))
        await laptop.client().close()
        expect((await laptop.status()).lostLog?.code).toBeOneOf(codes)
        expect((await laptop.status()).outboxEvents).toBeGreaterThanOrEqual(1)
        expect(await laptop.verify()).toMatchObject({ isSound: true })
        const before = await held(laptop)
        const accepted = await republish(laptop)
        expect(accepted.otherEvents).toBeGreaterThanOrEqual(5)
        expect(accepted.through).toBeGreaterThan(0)
        expect((await laptop.status()).missingEvents).toBeGreaterThanOrEqual(5)

        // By now the log is as long as it was, and another one.
        await stopCodeOf(phone.client())
        await republish(phone)
        const texts = await expectOneLog([laptop, phone], before.length + 1)
        expect(new Set(texts)).toEqual(new Set([...before.map(({ text }) => text), 'waiting']))
      })
      // And it goes on as before.
      await publishInTurns('after', 2)
    },
  )

  test('RET-6: what a reader had read of the lost log is not shown to it again', {
    timeout: 4 * DEADLINE_MS,
  }, async () => {
    await linkPhone()
    await publishInTurns('kept', 1)
    await scene.backUp()
    await publishInTurns('lost', 3)
    await withDevices(async (laptop) => {
      await laptop.setPosition('reader', laptop.client().cursor())
    })
    await scene.putBack({ isSaid: true })
    await withDevices(async (laptop, phone) => {
      await republish(laptop)
      await republish(phone)
      await expectOneLog([laptop, phone], 8)
      await publish(phone.client(), 'new')
      const [after, readBefore] = [await laptop.position('reader'), await laptop.readBefore('reader')]
      expect(after).toBeLessThan(readBefore)
      for await (const event of laptop.client().events('notes', { after, readBefore })) {
        expect(textOf(event.content.body)).toBe('new')
        break
      }
    })
  })

  test('RET-6, RET-9: what has outlived its lifetime is not published again, all else after it is', {
    timeout: 4 * DEADLINE_MS,
  }, async () => {
    await linkPhone()
    await publishInTurns('kept', 1)
    // The newest of its events that the backup holds is one whose bytes will be erased.
    const brief = await openNodeDevice(scene.homes.laptop, { checkpointEvery: 0 })
    brief.client().start()
    await publish(brief.client(), 'brief', 1)
    await brief.client().flush()
    await brief.close()
    await scene.backUp()
    await withDevices(async (laptop) => {
      const client = laptop.client()
      client.start()
      for (let i = 0; i < 4; i++) await publish(client, `short ${i}`, 1)
      await publish(client, 'lasting')
      await client.flush()
    })
    const storedAtMs = Date.now()
    await scene.putBack({ isSaid: true })
    await waitFor(
      'the lifetimes to end',
      async () => Date.now() - storedAtMs,
      (ageMs) => ageMs > 1000,
    )
    await withDevices(async (laptop, phone) => {
      const refused: string[] = []
      await waitFor(
        'what is over to be erased',
        () => laptop.verify(),
        ({ expiredEvents }) => expiredEvents === 5,
      )
      const accepted = await laptop.acceptLog()
      expect(accepted.ownEvents).toBeGreaterThanOrEqual(5)
      const client = laptop.client()
      client.onRefused(({ code }) => refused.push(code))
      client.start()
      await client.flush(AbortSignal.timeout(DEADLINE_MS))
      expect(refused).toEqual([])
      await republish(phone)
      const texts = await expectOneLog([laptop, phone], 3)
      expect(texts.at(-1)).toBe('lasting')
    })
  })
})
