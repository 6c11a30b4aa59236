// A server that takes things later, seen by a client: what is published is kept, what is signed is asked again in the same
// session, and a new account waits or says when to try again.

import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { beforeEach, describe, expect, test } from 'vitest'
import { createAccount } from '../src/account/create-account.ts'
import type { SetupError } from '../src/account/setup-error.ts'
import type { PublishDelay } from '../src/publish/delay.ts'
import { createMemoryStore } from '../src/store/memory-store.ts'
import { publishAll } from './support/device-pair.ts'
import { createManualClock } from './support/manual-clock.ts'
import { createFirstDevice, sealer } from './support/test-device.ts'
import { createTestServer, type TestServer } from './support/test-server.ts'
import { until } from './support/until.ts'

let server: TestServer
beforeEach(() => {
  server = createTestServer()
})

describe('publishing', () => {
  test('LIM-28: says why it waits, keeps all of it, asks with one event, and sends the rest when there is room', async () => {
    const { client, clock } = await createFirstDevice(server)
    let isFull = true
    const sizes: number[] = []
    server.intercept = (message, peer) => {
      if (message.type !== 'publish') return false
      sizes.push(message.events.length)
      if (!isFull) return false
      const first = sizes.length === 1 ? [1, 2, 3] : [1]
      for (const device_seq of first)
        peer.send({ type: 'refused', device_seq, code: 'storage_low', retry_after_ms: 5000 })
      return true
    }
    const delays: (PublishDelay | undefined)[] = []
    client.onPublishDelayed((delay) => delays.push(delay))
    await publishAll(client, ['a', 'b', 'c'])
    const connections = server.connections
    client.start()
    await until(() => {
      if (sizes.length > 0) clock.advance(100)
      return sizes.length === 3
    }, 'two more tries')
    expect(sizes).toEqual([3, 1, 1])
    const [first, second] = delays
    expect(first).toMatchObject({ code: 'storage_low' })
    expect(second).toMatchObject({ code: 'storage_low', sinceMs: first!.sinceMs })
    isFull = false
    await until(() => {
      clock.advance(100)
      return server.events.length === 3
    }, 'the events')
    await until(() => delays.at(-1) === undefined, 'word that events are taken again')
    expect(server.connections).toBe(connections + 1)
    await client.close()
  })
})

describe('signing', () => {
  test.each(['rate_limited', 'storage_low'] as const)(
    'LIM-26, LIM-28: an entry that is refused with %s is signed again later, in the same session',
    async (code) => {
      const { client, clock } = await createFirstDevice(server)
      let refusals = 0
      server.intercept = (message, peer) => {
        if (message.type !== 'append_device_log' || refusals >= 2) return false
        refusals++
        peer.send({ type: 'error', code, request_id: message.request_id, retry_after_ms: 4000 })
        return true
      }
      client.start()
      await client.whenLive()
      const connections = server.connections
      let rotated: number | undefined
      client.rotateEpoch().then((epoch) => {
        rotated = epoch
      })
      await until(() => {
        if (refusals > 0) clock.advance(100)
        return rotated !== undefined
      }, 'the new epoch')
      expect([rotated, refusals, server.connections]).toEqual([2, 2, connections])
      await client.close()
    },
  )

  test.each([
    ['rate_limited', 'Try again in 2 minutes'],
    ['storage_low', 'short of storage'],
  ] as const)(
    'LIM-26, LIM-28: whoever waits no longer for an entry refused with %s is told why',
    async (code, text) => {
      const { client } = await createFirstDevice(server)
      let refusals = 0
      server.intercept = (message, peer) => {
        if (message.type !== 'append_device_log') return false
        refusals++
        peer.send({ type: 'error', code, request_id: message.request_id, retry_after_ms: 90_000 })
        return true
      }
      client.start()
      await client.whenLive()
      const timeout = new AbortController()
      const rotating = client.rotateEpoch(timeout.signal).catch((error: unknown) => error)
      await until(() => refusals > 0, 'the refusal')
      timeout.abort(new DOMException('It took too long.', 'TimeoutError'))
      expect(await rotating).toMatchObject({ code: 'changes_wait', message: expect.stringContaining(text) })
      await client.close()
    },
  )
})

describe('a new account', () => {
  const create = (clock = createManualClock(), signal?: AbortSignal) =>
    createAccount(
      { store: createMemoryStore(), sealer, crypto, clock, transport: server.transport, clientInfo: 'test' },
      { server: { url: 'ws://test', fingerprint: server.fingerprint }, name: 'x', platform: 'y', signal },
    )
  const refuse = (code: 'rate_limited' | 'storage_low', retryAfterMs: number, times: number) => {
    const counted = { refusals: 0 }
    server.intercept = (message, peer) => {
      if (message.type !== 'register' || counted.refusals >= times) return false
      counted.refusals++
      peer.send({ type: 'error', code, retry_after_ms: retryAfterMs })
      return true
    }
    return counted
  }
  const failureOf = (attempt: Promise<unknown>): Promise<SetupError> =>
    attempt.then(
      () => Promise.reject(new Error('it succeeded')),
      (error: SetupError) => error,
    )

  test('LIM-27: waits for a limit that is over soon', async () => {
    const clock = createManualClock()
    const counted = refuse('rate_limited', 20_000, 2)
    let isMade = false
    create(clock).then(() => {
      isMade = true
    })
    await until(() => {
      if (counted.refusals > 0) clock.advance(1000)
      return isMade
    }, 'the account')
    expect(counted.refusals).toBe(2)
  })

  test('LIM-27: says when to try again where that is later', async () => {
    refuse('rate_limited', 170_000, 9)
    expect(await failureOf(create())).toMatchObject({
      code: 'registration_limited',
      message: expect.stringContaining('Try again in 3 minutes'),
    })
  })

  test('LIM-28: says that the server is short of storage', async () => {
    refuse('storage_low', 5000, 9)
    expect(await failureOf(create())).toMatchObject({
      code: 'registration_limited',
      message: expect.stringContaining('short of storage'),
    })
  })

  test('LIM-27: waiting ends when it is given up', async () => {
    const giveUp = new AbortController()
    const counted = refuse('rate_limited', 20_000, 9)
    const failure = failureOf(create(createManualClock(), giveUp.signal))
    await until(() => counted.refusals > 0, 'the refusal')
    giveUp.abort()
    expect(await failure).toMatchObject({ code: 'aborted' })
  })
})
