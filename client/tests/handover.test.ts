// A session that is to end is replaced before it does: when, in which order, and what follows when it fails (SES-2).

import { beforeEach, describe, expect, test } from 'vitest'
import type { Client, ClientState } from '../src/client.ts'
import { createEagerLimit } from '../src/connection/eager-limit.ts'
import { createHandover } from '../src/connection/handover.ts'
import type { Transport } from '../src/transport.ts'
import { publishAll, stopCode } from './support/device-pair.ts'
import { createManualClock } from './support/manual-clock.ts'
import { createFirstDevice, type TestDevice } from './support/test-device.ts'
import type { Peer } from './support/test-peer.ts'
import { createTestServer, type TestServer } from './support/test-server.ts'
import { until } from './support/until.ts'

const HOUR_MS = 3_600_000

describe('the moment of a handover', () => {
  const createScene = (random: number) => {
    const clock = createManualClock(0)
    const attempts: number[] = []
    const limit = createEagerLimit({ clock, random: () => 0 })
    const handover = createHandover({
      clock,
      random: () => random,
      limit,
      attempt: async () => {
        limit.spend()
        attempts.push(clock.now())
      },
    })
    return { clock, attempts, handover }
  }

  test.each([
    [0, 0],
    [0.5, HOUR_MS],
    [0.999_999, 2 * HOUR_MS - 1],
  ])('SES-2: with chance %d of 4 h left it comes after %i ms', (random, expected) => {
    const { clock, attempts, handover } = createScene(random)
    handover.before(4 * HOUR_MS)
    clock.advance(4 * HOUR_MS)
    expect(attempts[0]).toBeGreaterThanOrEqual(expected - 10)
    expect(attempts[0]).toBeLessThanOrEqual(expected)
  })

  test('SES-2: of two reasons the earlier moment counts; SES-7: the next is half a minute away, however past its own is', () => {
    const { clock, attempts, handover } = createScene(0.5)
    handover.after(5000)
    handover.before(4 * HOUR_MS)
    clock.advance(5000)
    expect(attempts).toEqual([5000])
    handover.before(-1)
    clock.advance(29_999)
    expect(attempts).toEqual([5000])
    clock.advance(1)
    expect(attempts).toEqual([5000, 35_000])
  })

  test('SES-2: an attempt is repeated while the session lasts, and never after', async () => {
    const { clock, attempts, handover } = createScene(0.5)
    handover.after(0)
    clock.advance(0)
    await until(() => clock.waiting === 1, 'the next plan')
    clock.advance(30_000)
    await until(() => clock.waiting === 1, 'the next plan')
    handover.cancel()
    clock.advance(HOUR_MS)
    expect([attempts, clock.waiting]).toEqual([[0, 30_000], 0])
  })
})

describe('a handover', () => {
  let server: TestServer
  let device: TestDevice
  let client: Client
  let states: ClientState['type'][]
  let old: Peer
  /** Takes the frame that ends a handshake, to deliver it later. */
  let holdGreeting: ((deliver: () => void) => void) | undefined

  beforeEach(async () => {
    server = createTestServer()
    holdGreeting = undefined
    const { transport } = server
    const held: Transport = {
      connect: (url, handlers) =>
        transport.connect(url, {
          ...handlers,
          onMessage: (data) => {
            const isGreeting = typeof data === 'string' && data.includes('session_established')
            if (isGreeting && holdGreeting !== undefined) holdGreeting(() => handlers.onMessage(data))
            else handlers.onMessage(data)
          },
        }),
    }
    device = await createFirstDevice({ ...server, transport: held })
    client = device.client
    client.start()
    await until(() => client.state().type === 'live' && server.peers.size === 1, 'the session')
    old = [...server.peers][0]!
    states = []
    client.onState(({ type }) => states.push(type))
    server.connections = 0
  })

  const begin = async (): Promise<void> => {
    const idle = device.clock.waiting
    server.push({ type: 'session_expiring', expires_at: device.clock.now() + 4 * HOUR_MS })
    await until(() => device.clock.waiting === idle + 1, 'the plan')
    device.clock.advance(0)
  }
  /** Called when the server greets the new session, before the greeting is sent. */
  const onGreeting = (task: () => void, isGreeted = true): void => {
    server.distort = (message) => {
      if (message.type !== 'session_established') return [message]
      task()
      return isGreeted ? [message] : []
    }
  }

  test('SES-2: the old session is closed after the new one stands, and the user sees nothing', async () => {
    let openAtGreeting = 0
    onGreeting(() => {
      openAtGreeting = server.peers.size
    })
    await publishAll(client, ['a'])
    await client.flush()
    await begin()
    await until(() => server.connections === 1 && !server.peers.has(old), 'the old session to end')
    await publishAll(client, ['b'])
    await client.flush()
    expect([openAtGreeting, server.peers.size, server.events.length]).toEqual([2, 1, 2])
    expect([states, client.state().type]).toEqual([[], 'live'])
  })

  test('SES-3: that the server supersedes the old session first is no reason to stop', async () => {
    onGreeting(() => old.close(4405, ''))
    await begin()
    await until(() => server.peers.size === 1 && !server.peers.has(old), 'the new session')
    await publishAll(client, ['a'])
    await client.flush()
    expect([states, client.state().type, server.connections]).toEqual([[], 'live', 1])
  })

  test('SES-3: superseded, and the new session lost before it stood: the client comes back', async () => {
    onGreeting(() => {
      old.close(4405, '')
      for (const peer of server.peers) if (peer !== old) peer.close(1006, '')
    }, false)
    await begin()
    await until(() => states.includes('offline'), 'the loss')
    server.distort = (message) => [message]
    device.clock.advance(0)
    await until(() => client.state().type === 'live', 'the return')
    expect(server.connections).toBe(2)
  })

  test('SES-3: superseded late by a new session that was lost: the client comes back', async () => {
    let isLost = false
    onGreeting(() => {
      for (const peer of server.peers) if (peer !== old) peer.close(1006, '')
      isLost = true
    }, false)
    await begin()
    await until(() => isLost && server.peers.size === 1, 'the loss of the new session')
    server.distort = (message) => [message]
    old.close(4405, '')
    await until(() => states.includes('offline'), 'the end of the old session')
    device.clock.advance(0)
    await until(() => client.state().type === 'live', 'the return')
  })

  test('SES-3: superseded before the new session could have begun: another program has the device', async () => {
    server.isReachable = false
    const idle = device.clock.waiting
    server.push({ type: 'session_expiring', expires_at: device.clock.now() + 4 * HOUR_MS })
    await until(() => device.clock.waiting === idle + 1, 'the plan')
    old.close(4405, '')
    device.clock.advance(0)
    await until(() => client.state().type === 'stopped', 'the stop')
    expect(stopCode(client)).toBe('session_superseded')
  })

  test('P6: told during the handover that it was revoked, it looks for the entry in the new session, and once only', async () => {
    onGreeting(() => old.close(4403, ''))
    await begin()
    await until(() => server.peers.size === 1, 'the new session alone')
    expect(client.state().type).toBe('live')
    server.cut(4403)
    await until(() => client.state().type === 'stopped', 'the stop')
    expect(stopCode(client)).toBe('revocation_unproven')
    await until(() => server.peers.size === 0, 'the new session to end')
    expect(device.clock.waiting).toBe(0)
  })

  test('P4: events and receipts of the old session that come too late are told again, and count once', async () => {
    const receipts: number[] = []
    client.onReceipt(({ deviceSeq }) => receipts.push(deviceSeq))
    // Receipts of the old session stay on the way until the new one stands.
    server.distort = (message) => (message.type === 'receipts' ? [] : [message])
    await publishAll(client, ['a', 'b'])
    await until(() => server.events.length === 2, 'the events')
    onGreeting(() => old.send({ type: 'receipts', receipts: [[1, 1, 1, 1, false]] }))
    await begin()
    await client.flush()
    expect([receipts, server.events.length, states]).toEqual([[1, 2], 2, []])
  })

  test('P4: word of the old session that is newer than the greeting of another node is no contradiction', async () => {
    server.distort = (message) => (message.type === 'receipts' ? [] : [message])
    await publishAll(client, ['a', 'b'])
    await until(() => server.events.length === 2, 'the events')
    // The new node read its database before the two events; the old one answers them before it hears of the new.
    server.distort = (message) =>
      message.type === 'session_established' ? [{ ...message, last_device_seq: 0, head: 0 }] : [message]
    let release = (): void => {}
    holdGreeting = (deliver) => {
      release = deliver
    }
    await begin()
    await until(() => server.peers.size === 2, 'the new session at the server')
    old.send({ type: 'receipts', receipts: [1, 2].map((seq) => [seq, seq, seq, 1_700_000_000_000, false]) })
    for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve))
    release()
    await until(() => server.peers.size === 1, 'the old session to end')
    await publishAll(client, ['c'])
    await client.flush()
    expect([server.events.length, states, client.state().type]).toEqual([3, [], 'live'])
  })

  test('SES-2: a client that is closed meanwhile ends both sessions', async () => {
    let isGreeted = false
    onGreeting(() => {
      isGreeted = true
    }, false)
    await begin()
    await until(() => isGreeted, 'half a handover')
    await client.close()
    await until(() => server.peers.size === 0, 'both ends')
    expect(device.clock.waiting).toBe(0)
  })

  test('SES-5: a node that stops is left after the delay it gave', async () => {
    const idle = device.clock.waiting
    server.push({ type: 'draining', reconnect_after_ms: 7000 })
    await until(() => device.clock.waiting === idle + 1, 'the plan')
    device.clock.advance(6999)
    expect(server.connections).toBe(0)
    device.clock.advance(1)
    await until(() => server.connections === 1 && !server.peers.has(old), 'the new session')
    expect([states, client.state().type]).toEqual([[], 'live'])
  })
})
