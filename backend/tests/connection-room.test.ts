// A connection whose socket is full or not read, against a clock the test moves; and the requests that wait for room.

import { createSessionChannel, decodeServerMessages } from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { describe, expect, test } from 'vitest'
import { createConnection } from '../src/gateway/connection.ts'
import { createRequestQueue } from '../src/gateway/request-queue.ts'
import { createRotationCounter } from '../src/gateway/session-rotation.ts'

const BOUND = 1000
const SLOW_CONSUMER_MS = 60_000
const PING_INTERVAL_MS = 20_000

function createScene() {
  const secrets = () => ({
    masterSecret: new Uint8Array(32).fill(1),
    transcriptHash: new Uint8Array(32).fill(2),
    clientTraffic: new Uint8Array(32).fill(3),
    serverTraffic: new Uint8Array(32).fill(4),
    sessionId: new Uint8Array(16).fill(5),
  })
  const client = createSessionChannel({ crypto: nodeCrypto, role: 'client', secrets: secrets() })
  const scene = { nowMs: 0, bufferedBytes: 0, progress: 0, isRead: true, pings: 0 }
  const connection = createConnection({
    socket: {
      send: (frame) => {
        if (typeof frame === 'string') return
        const received = client.receive(frame)
        const decoded = received.type === 'application' ? decodeServerMessages(received.payload) : undefined
        if (decoded?.ok && decoded.messages[0]?.type === 'ping') scene.pings++
      },
      close: () => {},
      noteDrained: () => {},
      boundFrames: () => {},
      bufferedBytes: () => scene.bufferedBytes,
      gatherTurn: () => {},
      progress: () => scene.progress,
      isRead: () => scene.isRead,
    },
    channel: createSessionChannel({ crypto: nodeCrypto, role: 'server', secrets: secrets() }),
    rotation: createRotationCounter({ maxAgeMs: 86_400_000, maxEvents: 1000 }),
    canRekey: true,
    establishedAtMs: 0,
    sendBufferBytes: BOUND,
    slowConsumerMs: SLOW_CONSUMER_MS,
    pingIntervalMs: PING_INTERVAL_MS,
    now: () => scene.nowMs,
    charge: () => {},
    onMessage: () => {},
    onRekeyed: () => {},
  })
  connection.allowFrames(1_048_576)
  /** Ticks once a second; what the ticks said but `undefined`. */
  const pass = (ms: number, eachTick = (): void => {}): unknown[] => {
    const said: unknown[] = []
    for (const endMs = scene.nowMs + ms; scene.nowMs < endMs; ) {
      scene.nowMs += 1000
      eachTick()
      const due = connection.tick()
      if (due !== undefined) said.push(due)
    }
    return said
  }
  return { scene, connection, pass }
}

describe('a full socket', () => {
  test('P5: nothing is delivered above the bound, and a peer that takes nothing is a slow consumer', () => {
    const { scene, connection, pass } = createScene()
    scene.isRead = false
    scene.bufferedBytes = BOUND + 500
    connection.sendEncoded(new Uint8Array(1))
    expect([connection.allowance(), connection.hasRoom()]).toEqual([0, false])
    // What the node itself goes on sending is no progress of the peer's.
    expect(pass(SLOW_CONSUMER_MS - 1000, () => connection.sendEncoded(new Uint8Array(1)))).toEqual([])
    expect(pass(1000)).toEqual(['slow_consumer'])
  })

  test('P5: a peer that takes a little is slow and not gone, and when there is room it is as before', () => {
    const { scene, connection, pass } = createScene()
    scene.isRead = false
    scene.bufferedBytes = BOUND + 500
    connection.sendEncoded(new Uint8Array(1))
    const takeALittle = (): void => {
      if (scene.nowMs % 50_000 !== 0) return
      scene.progress += 1
      // Answers to what it had sent before come on top.
      scene.bufferedBytes += 10
    }
    expect(pass(10 * SLOW_CONSUMER_MS, takeALittle)).toEqual([])
    scene.bufferedBytes = 0
    scene.isRead = true
    expect(pass(1000)).toEqual([])
    expect(connection.allowance()).toBe(1000)
  })
})

describe('a socket that is not read', () => {
  test('SES-4: is told that the server lives, and its silence is not held against it until it is read again', () => {
    const { scene, pass } = createScene()
    scene.isRead = false
    expect(pass(600_000)).toEqual([])
    expect(scene.pings).toBe(60)
    scene.isRead = true
    expect(pass(PING_INTERVAL_MS + 2 * PING_INTERVAL_MS - 1000)).toEqual([])
    expect(pass(PING_INTERVAL_MS)).toContain('gone')
  })
})

describe('requests that wait for room', () => {
  const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

  test('P5: each answer is made only when the socket has room for it, in the order of the requests', async () => {
    let hasRoom = true
    const done: number[] = []
    const queue = createRequestQueue({ hasRoom: () => hasRoom, maxQueued: 4 })
    const request = (id: number) => async (): Promise<void> => {
      done.push(id)
      hasRoom = false
    }
    expect([1, 2, 3, 4].map((id) => queue.add(request(id)))).toEqual([true, true, true, true])
    for (const count of [1, 2, 3, 4]) {
      await settle()
      expect(done).toHaveLength(count)
      hasRoom = true
      queue.resume()
    }
    await settle()
    expect(done).toEqual([1, 2, 3, 4])
  })

  test('P5: the queue is bounded, the request at work included, but for what the node says of itself', async () => {
    let finish = (): void => {}
    const queue = createRequestQueue({ hasRoom: () => true, maxQueued: 2 })
    const work = (): Promise<void> =>
      new Promise((resolve) => {
        finish = resolve
      })
    expect([queue.add(work), queue.add(work), queue.add(work)]).toEqual([true, true, false])
    queue.insist(work)
    finish()
    await settle()
    expect(queue.add(work)).toBe(false)
    finish()
    await settle()
    expect(queue.add(work)).toBe(true)
  })
})
