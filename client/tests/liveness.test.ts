// A client that loses its server without a word finds out, and comes back by itself (SES-4).

import type { ServerMessage } from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { beforeEach, describe, expect, test } from 'vitest'
import { createPinKeeper } from '../src/account/pin-keeper.ts'
import type { Client } from '../src/client.ts'
import { openSession } from '../src/connection/session.ts'
import type { Transport } from '../src/transport.ts'
import { publishAll } from './support/device-pair.ts'
import { createFirstDevice, type TestDevice } from './support/test-device.ts'
import { createTestServer, type TestServer } from './support/test-server.ts'
import { until } from './support/until.ts'

let server: TestServer
let device: TestDevice
let client: Client
/** Pings that reached the server. */
let pings: number
let isSilent: boolean

beforeEach(async () => {
  server = createTestServer()
  device = await createFirstDevice(server, { random: () => 0.5 })
  client = device.client
  pings = 0
  isSilent = false
  server.intercept = (message) => {
    if (message.type === 'ping') pings += 1
    return isSilent
  }
  client.start()
  await until(() => client.state().type === 'live', 'the session')
})

/** Lets what is on the way arrive: everything crosses in microtasks. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

async function pass(ms: number, stepMs: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += stepMs) {
    device.clock.advance(stepMs)
    await settle()
  }
}

describe('a half-open connection', () => {
  test('SES-4: is gone within a minute, and the client is back by itself', async () => {
    const lastHeardMs = device.clock.now()
    isSilent = true
    const before = server.connections
    while (client.state().type === 'live') await pass(1000, 1000)
    expect(device.clock.now() - lastHeardMs).toBeLessThanOrEqual(60_000)
    isSilent = false
    await pass(30_000, 1000)
    await until(() => client.state().type === 'live', 'the return')
    expect(server.connections).toBe(before + 1)
    await publishAll(client, ['a'])
    await client.flush()
  })

  test('SES-4: a server that answers is kept for a day, with few pings', async () => {
    const before = server.connections
    await pass(86_400_000, 20_000)
    expect([client.state().type, server.connections]).toEqual(['live', before])
    expect(pings).toBeLessThanOrEqual(4320)
    expect(pings).toBeGreaterThanOrEqual(4319)
  })
})

describe('what was published', () => {
  const answers: Record<string, ServerMessage | undefined> = {
    'a receipt': undefined,
    'a refusal for its rate': { type: 'refused', device_seq: 1, code: 'rate_limited', retry_after_ms: 90_000 },
    'the word to come later': { type: 'unavailable', retry_after_ms: 90_000 },
  }
  test.each(Object.entries(answers))('SES-4: and got %s is waited for no longer', async (_, answer) => {
    let isAnswered = false
    server.intercept = (message, peer) => {
      if (message.type !== 'publish') return false
      isAnswered = true
      if (answer !== undefined) peer.send(answer)
      return answer !== undefined
    }
    const before = server.connections
    await publishAll(client, ['a'])
    await until(() => isAnswered, 'the event')
    await pass(60_000, 10_000)
    expect([client.state().type, server.connections]).toEqual(['live', before])
  })

  test('SES-4: and stays without an answer ends the session, though pings are answered', async () => {
    let isSent = false
    server.intercept = ({ type }) => {
      if (type === 'publish') isSent = true
      return type === 'publish'
    }
    await publishAll(client, ['a'])
    await until(() => isSent, 'the event')
    await pass(20_000, 10_000)
    await pass(9999, 9999)
    expect(client.state().type).toBe('live')
    await pass(1, 1)
    expect(client.state().type).toBe('offline')
  })
})

describe('after the machine woke up', () => {
  test('SES-4: the server is asked at once, and has five seconds', async () => {
    isSilent = true
    client.checkLiveness()
    await settle()
    expect(pings).toBe(1)
    device.clock.advance(4999)
    expect(client.state().type).toBe('live')
    device.clock.advance(1)
    expect(client.state().type).toBe('offline')
  })

  test('SES-4: a server that answers is kept, and watched as before', async () => {
    client.checkLiveness()
    await settle()
    device.clock.advance(5000)
    await settle()
    expect([client.state().type, pings]).toEqual(['live', 2])
    isSilent = true
    await pass(40_000, 20_000)
    expect(client.state().type).toBe('offline')
  })

  test('SES-4: a client that waits to come back comes back at once, with one connection', async () => {
    server.isReachable = false
    server.cut()
    await until(() => client.state().type === 'offline', 'the loss')
    server.isReachable = true
    const before = server.connections
    client.checkLiveness()
    client.checkLiveness()
    await until(() => client.state().type === 'live', 'the return')
    await pass(60_000, 10_000)
    expect(server.connections).toBe(before + 1)
  })

  test('SES-4: before the start and after the end it does nothing', async () => {
    await client.close()
    client.checkLiveness()
    expect(client.state().type).toBe('stopped')
    await device.restart()
    const before = server.connections
    device.client.checkLiveness()
    expect([device.client.state().type, server.connections]).toEqual(['offline', before])
  })
})

describe('a close', () => {
  const retryInMs = (): number | undefined => {
    const state = client.state()
    return state.type === 'offline' && state.retryAtMs !== undefined ? state.retryAtMs - device.clock.now() : undefined
  }

  test('SES-2: with 1001 and the text of the rotation is answered at once, without backoff', async () => {
    server.cut(1001, 'Session key rotation required')
    await until(() => client.state().type === 'offline', 'the close')
    expect(retryInMs()).toBe(0)
  })

  test('SES-2: with a bare 1001 it is an ordinary reconnect, with jitter', async () => {
    server.cut(1001, '')
    await until(() => client.state().type === 'offline', 'the close')
    expect(retryInMs()).toBe(125)
    device.clock.advance(125)
    await until(() => client.state().type === 'live', 'the return')
  })
})

test('SES-4: while this device reads nothing, the silence of its server is not held against it', async () => {
  const held: (() => void)[] = []
  let isHeld = false
  const transport: Transport = {
    connect: (url, handlers) => {
      const onMessage = (data: string | Uint8Array): void => {
        if (isHeld) held.push(() => handlers.onMessage(data))
        else handlers.onMessage(data)
      }
      return {
        ...server.transport.connect(url, { ...handlers, onMessage }),
        pause: () => {
          isHeld = true
        },
        resume: () => {
          isHeld = false
          for (const deliver of held.splice(0)) deliver()
        },
      }
    },
  }
  const ends: string[] = []
  let isUp = false
  const { identity, clock } = device
  const session = openSession({
    transport,
    pin: createPinKeeper({ crypto: nodeCrypto, transport, server: identity.server }),
    crypto: nodeCrypto,
    signer: identity.keys.signer,
    identity: {
      mode: 'device',
      userId: identity.userId,
      deviceId: identity.deviceId,
      publicKey: identity.keys.signer.publicKey,
      logSeq: 0,
      logHead: server.state!.head,
      canRekey: true,
      clientInfo: 'test',
    },
    clock,
    handlers: {
      onEstablished: () => {
        isUp = true
      },
      onRekeyed: () => {},
      onMessage: () => {},
      onEnd: ({ type }) => ends.push(type),
    },
  })
  await until(() => isUp, 'the session')
  session.pause()
  await pass(120_000, 10_000)
  expect(ends).toEqual([])
  session.resume()
  isSilent = true
  await pass(40_000, 20_000)
  expect(ends).toEqual(['silent'])
})
