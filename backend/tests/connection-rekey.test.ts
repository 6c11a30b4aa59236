// Rotation in band at frame level: a real session channel on either side, nothing between them.

import { createSessionChannel } from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { describe, expect, it } from 'vitest'
import { createConnection } from '../src/gateway/connection.ts'
import { createRotationCounter } from '../src/gateway/session-rotation.ts'

const limits = { maxAgeMs: 86_400_000, maxEvents: 10 }

function createPair() {
  const secrets = () => ({
    masterSecret: new Uint8Array(32).fill(1),
    transcriptHash: new Uint8Array(32).fill(2),
    clientTraffic: new Uint8Array(32).fill(3),
    serverTraffic: new Uint8Array(32).fill(4),
    sessionId: new Uint8Array(16).fill(5),
  })
  const client = createSessionChannel({ crypto: nodeCrypto, role: 'client', secrets: secrets() })
  let hints = 0
  /** What the client would send next. */
  const replies: Uint8Array[] = []
  const connection = createConnection({
    socket: {
      send: (frame) => {
        if (typeof frame === 'string') return
        const received = client.receive(frame)
        if (received.type === 'rekey_hint') hints++
        if (received.type === 'rekey') replies.push(...received.replies)
      },
      close: () => {},
      bufferedBytes: () => 0,
      gatherTurn: () => {},
      progress: () => 0,
      isRead: () => true,
      noteDrained: () => {},
      boundFrames: () => {},
    },
    channel: createSessionChannel({ crypto: nodeCrypto, role: 'server', secrets: secrets() }),
    rotation: createRotationCounter(limits),
    canRekey: true,
    establishedAtMs: 0,
    sendBufferBytes: 1000,
    slowConsumerMs: 1000,
    pingIntervalMs: 1000,
    now: () => 0,
    charge: () => {},
    onMessage: () => {},
    onRekeyed: () => {},
  })
  connection.allowFrames(1_048_576)
  return { client, connection, replies, hints: () => hints }
}

describe('keys that change while events are delivered', () => {
  it('SES-2: the server asks again when the events of the new keys are used up before both halves stand', () => {
    const { client, connection, replies, hints } = createPair()
    connection.countDelivered(10)
    expect(hints()).toBe(1)
    expect(connection.allowance()).toBe(0)

    // The first half gives the server its new sending keys, and it delivers as many events as they allow.
    connection.receive(client.startRekey())
    expect(connection.allowance()).toBe(10)
    connection.countDelivered(10)
    expect(connection.allowance()).toBe(0)

    connection.receive(replies[0]!)
    expect(hints()).toBe(2)
    connection.receive(client.startRekey())
    expect(connection.allowance()).toBe(10)
  })
})
