// One session over one connection: its deadlines, its answers, and how it ends.

import { type ClientIdentity, noUserId, type ServerMessage } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { beforeEach, describe, expect, test } from 'vitest'
import { createPinKeeper } from '../src/account/pin-keeper.ts'
import { createRequests, RequestRefusedError, SessionLostError } from '../src/connection/requests.ts'
import { openSession, type Session, type SessionEnd } from '../src/connection/session.ts'
import type { Connection, Transport, TransportHandlers } from '../src/transport.ts'
import { createManualClock, type ManualClock } from './support/manual-clock.ts'
import { createFirstDevice } from './support/test-device.ts'
import { createTestServer, type TestServer } from './support/test-server.ts'
import { until } from './support/until.ts'

let clock: ManualClock
let server: TestServer
let ends: SessionEnd[]
let messages: ServerMessage[]
let established: number
let identity: ClientIdentity
let signer: { publicKey: Uint8Array; sign(message: Uint8Array): Uint8Array | Promise<Uint8Array> }

beforeEach(async () => {
  clock = createManualClock()
  server = createTestServer()
  ends = []
  messages = []
  established = 0
  const device = await createFirstDevice(server)
  signer = device.identity.keys.signer
  const { deviceId, userId } = device.identity
  const log = { logSeq: 0, logHead: server.state!.head }
  const about = { canRekey: true, clientInfo: 'test', publicKey: signer.publicKey }
  identity = { mode: 'device', userId, deviceId, ...log, ...about }
})

const open = (transport: Transport = server.transport, pinned = server.fingerprint): Session =>
  openSession({
    transport,
    pin: createPinKeeper({ crypto, transport, server: { url: 'ws://s', fingerprint: pinned } }),
    crypto,
    signer,
    identity,
    clock,
    handlers: {
      onEstablished: () => {
        established += 1
      },
      onRekeyed: () => {},
      onMessage: (message) => messages.push(message),
      onEnd: (end) => ends.push(end),
    },
  })

/** A far side that a test plays by hand. */
function createHandPlayed() {
  const sent: (string | Uint8Array)[] = []
  const closed: number[] = []
  let handlers: TransportHandlers | undefined
  const connection: Connection = {
    send: (data) => sent.push(data),
    close: (code) => closed.push(code),
    bufferedAmount: 0,
  }
  const transport: Transport = {
    connect: (_url, given) => {
      handlers = given
      return connection
    },
  }
  return { transport, sent, closed, far: () => handlers! }
}

describe('a handshake', () => {
  test('SES-1: leads to a session with the pinned server only', async () => {
    open()
    await until(() => established === 1, 'the session')
    open(server.transport, new Uint8Array(32).fill(1))
    await until(() => ends.length === 1, 'the refusal')
    expect(ends).toEqual([{ type: 'wrong_server_key' }])
  })

  test('SES-1: has ten seconds, whatever stage it is in', () => {
    const stages: ((far: TransportHandlers) => void)[] = [() => {}, (far) => far.onOpen()]
    for (const reach of stages) {
      const { transport, far, closed } = createHandPlayed()
      ends = []
      open(transport)
      reach(far())
      clock.advance(9_999)
      expect(ends).toEqual([])
      clock.advance(1)
      expect(ends).toEqual([{ type: 'handshake_timeout' }])
      expect(closed).toEqual([4400])
    }
    expect(clock.waiting).toBe(0)
  })

  test('SES-1: ends at anything that is not its next message', async () => {
    for (const data of ['', '{}', '{"type":"server_hello","body":"AA","auth":"AA"}', new Uint8Array(40)]) {
      const { transport, far } = createHandPlayed()
      ends = []
      open(transport)
      far().onOpen()
      far().onMessage(data)
      await until(() => ends.length === 1, 'the end')
      expect(ends).toEqual([{ type: 'handshake_failed' }])
    }
  })

  test('a session ends once, however often it is told', () => {
    const { transport, far } = createHandPlayed()
    const session = open(transport)
    far().onClose(1006, '')
    far().onClose(4403, '')
    session.close()
    expect(ends).toEqual([{ type: 'lost' }])
  })
})

describe('a session', () => {
  test('SES-4: pings a silent server and gives it up after as long again', async () => {
    let isSilent = false
    server.intercept = (message) => isSilent && message.type === 'ping'
    const session = open()
    await until(() => established === 1, 'the session')
    clock.advance(20_000)
    clock.advance(19_999)
    await until(() => server.peers.size === 1, 'the session to stand')
    isSilent = true
    expect(ends).toEqual([])
    clock.advance(20_001)
    clock.advance(20_000)
    await until(() => ends.length === 1, 'the end')
    expect(ends).toEqual([{ type: 'silent' }])
    session.close()
  })

  test('SES-4: answers pings by itself', async () => {
    const pongs: number[] = []
    server.intercept = (message) => {
      if (message.type === 'pong') pongs.push(message.id)
      return false
    }
    open()
    await until(() => established === 1, 'the session')
    server.push({ type: 'ping', id: 42 })
    await until(() => pongs.length === 1, 'the pong')
    expect([pongs, messages]).toEqual([[42], []])
  })

  test('SES-2: counts events in both directions until the keys are new', async () => {
    const session = open()
    await until(() => established === 1, 'the session')
    expect(session.publishAllowance).toBe(1000)
    server.push({ type: 'events', events: [[1, 1, 1, new Uint8Array(1)]], through: 1 })
    await until(() => messages.length === 1, 'the events')
    server.intercept = () => true
    session.send({ type: 'publish', events: [new Uint8Array(1), new Uint8Array(1)] })
    expect(session.publishAllowance).toBe(997)
    for (const peer of server.peers) peer.hint()
    await until(() => session.publishAllowance === 1000, 'new keys')
  })

  test('MSG-2: a frame that does not open and a message that does not fit end it', async () => {
    open()
    await until(() => established === 1, 'the session')
    server.push({ type: 'caught_up', user_seq: -1 })
    await until(() => ends.length === 1, 'the end')
    expect(ends).toEqual([{ type: 'malformed_message', field: 'user_seq' }])
  })

  test('a close is told by its code of the registry', async () => {
    for (const [close, reason, end] of [
      [4403, '', { type: 'closed_by_server', code: 'device_revoked' }],
      [1001, 'Session key rotation required', { type: 'closed_by_server', code: 'session_rotation_required' }],
      [1001, '', { type: 'lost' }],
      [1006, '', { type: 'lost' }],
    ] as const) {
      ends = []
      const before = established
      open()
      await until(() => established === before + 1, 'the session')
      server.cut(close, reason)
      await until(() => ends.length === 1, 'the end')
      expect(ends).toEqual([end])
    }
  })
})

describe('requests', () => {
  const createScene = () => {
    const asked: number[] = []
    let overdue = 0
    const requests = createRequests({
      clock,
      send: (message) => {
        if ('request_id' in message) asked.push(message.request_id)
      },
      onOverdue: () => {
        overdue += 1
      },
    })
    return { requests, asked, overdue: () => overdue }
  }
  const fetch = { type: 'fetch_device_log', after_seq: null } as const
  const page = (request_id: number | null) => ({ type: 'device_log' as const, request_id, entries: [], head_seq: 0 })

  test('an answer finds its question, an error rejects it, anything else is nobody’s', async () => {
    const { requests, asked } = createScene()
    const first = requests.ask(fetch)
    const second = requests.ask(fetch)
    expect(asked).toEqual([1, 2])
    expect(requests.settle(page(null))).toBe(false)
    expect(requests.settle(page(7))).toBe(false)
    expect(requests.settle(page(2))).toBe(true)
    expect(requests.settle(page(2))).toBe(false)
    expect(requests.settle({ type: 'error', code: 'log_head_moved', request_id: 1 })).toBe(true)
    expect(await second).toMatchObject({ type: 'device_log' })
    await expect(first).rejects.toBeInstanceOf(RequestRefusedError)
    expect(clock.waiting).toBe(0)
  })

  test('P5: questions are bounded in number and in time, and end with the session', async () => {
    const { requests, overdue } = createScene()
    const waiting = Array.from({ length: 16 }, () => requests.ask(fetch))
    await expect(requests.ask(fetch)).rejects.toBeInstanceOf(SessionLostError)
    const outcomes = Promise.allSettled(waiting)
    clock.advance(30_000)
    expect(overdue()).toBe(16)
    requests.close()
    expect((await outcomes).every(({ status }) => status === 'rejected')).toBe(true)
    await expect(requests.ask(fetch)).rejects.toBeInstanceOf(SessionLostError)
  })
})

test('a session that registers has no user yet', async () => {
  identity = { ...identity, mode: 'register', userId: noUserId() }
  open()
  await until(() => established === 1, 'the session')
})
