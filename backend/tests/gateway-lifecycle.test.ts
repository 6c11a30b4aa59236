// How sessions begin and end when beginnings overlap and the server stops, through real sockets (SES-3, SES-5).

import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Bus } from '../src/bus/bus.ts'
import { follow, roundTrip } from './event-ordering/publishing.ts'
import { createAccount } from './support/account.ts'
import { dial } from './support/raw-device.ts'
import { startTestServer, type TestServer } from './support/server.ts'

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
    // Nothing is let through, so the first one that ends is the one that was superseded.
    expect(await Promise.race(beginning)).toMatchObject({ message: expect.stringContaining('4405') })
    bus.open()
    const newer = (await Promise.all(beginning)).find((outcome) => !(outcome instanceof Error))
    if (newer === undefined || newer instanceof Error) throw new Error('both sessions ended')
    await roundTrip(newer)
    expect(newer.closeFrame).toBeUndefined()
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
