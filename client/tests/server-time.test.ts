// Lifetimes count by the server's clock before an event is stored, too: a device whose own clock is off makes the ids of its
// events by what it knows of the server's.

import { eventIdTimeMs, parseEvent } from '@valise/protocol'
import { expect, test } from 'vitest'
import { parseContent } from '../src/sealing/content.ts'
import { createManualClock } from './support/manual-clock.ts'
import { createFirstDevice, text } from './support/test-device.ts'
import { SERVER_TIME_MS } from './support/test-peer.ts'
import { createTestServer } from './support/test-server.ts'

const DAY_MS = 86_400_000

test.each([-DAY_MS, DAY_MS])(
  'DEV-12: with a clock that is %i ms off, an id is made of the server’s time',
  async (offMs) => {
    const server = createTestServer()
    const first = await createFirstDevice(server, { clock: createManualClock(SERVER_TIME_MS + offMs) })
    first.client.start()
    await first.client.whenLive()
    await first.client.publish('notes', text('now'), { ttlS: 60 })
    first.clock.advance(5000)
    await first.client.publish('notes', text('five seconds later'), { ttlS: 60 })
    await first.client.flush()
    // As a process that is started again and has not spoken with the server yet.
    server.isReachable = false
    await first.restart()
    await first.client.publish('notes', text('while it is away'), { ttlS: 60 })
    const [waiting] = await first.client.device.outbox.read(0, 1, 1000)
    expect(server.events.map(({ item }) => eventIdTimeMs(parseEvent(item[3])!.eventId))).toEqual([
      SERVER_TIME_MS,
      SERVER_TIME_MS + 5000,
    ])
    expect(eventIdTimeMs(waiting!.eventId)).toBe(SERVER_TIME_MS + 5000)
  },
)

test.each([
  ['the end of all time', Number.MAX_SAFE_INTEGER, 2 ** 48 - 1],
  ['1970', 0, 0],
])(
  'DEV-12: a server that says it is %s keeps nobody from publishing, and has no say in what is sealed',
  async (_name, claimedMs, idTimeMs) => {
    const server = createTestServer()
    server.distort = (message) => [
      message.type === 'session_established' ? { ...message, server_time: claimedMs } : message,
    ]
    const first = await createFirstDevice(server)
    first.client.start()
    await first.client.whenLive()
    server.isReachable = false
    await first.restart()
    // As when a clock is put right: it goes back a little.
    first.clock.sleep(-1000)
    await first.client.publish('notes', text('all the same'))
    const [waiting] = await first.client.device.outbox.read(0, 1, 1000)
    expect(eventIdTimeMs(waiting!.eventId)).toBe(idTimeMs)
    expect(parseContent(waiting!.content)).toMatchObject({ content: { atMs: first.clock.now() } })
  },
)
