// What an abuser does to a server, kind by kind: twenty connections (or as many as the kind needs) at their worst, each from
// here until they are told to stop. Each counts what it got through, so that a quiet server is not taken for a strong one.

import { once } from 'node:events'
import { connect } from 'node:net'
import { chainStart, encodeMessage, noUserId } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { WebSocket } from 'ws'
import { sealRevoke } from '../tests/bad-input/entries.ts'
import type { TestAccount, TestDevice } from '../tests/support/account.ts'
import { encodePublish } from './messages.ts'
import { connectPeer, type Peer, type ServerAddress } from './peer.ts'
import { type BenchUser, createUser, identityOf, registerUsers } from './users.ts'

export interface AbuseParts {
  readonly server: ServerAddress
  readonly connections: number
  isStopped(): boolean
  /** Messages, requests or sockets that went out. */
  count(sent: number): void
}

/** Prepares, and resolves to what abuses until it is stopped. */
export type AbuseKind = (parts: AbuseParts) => Promise<() => Promise<void>>

const USERS = 10
/** What a user has published before its log is replayed: within the burst that a device may. */
const LOG_EVENTS = 1500
/** Each abuser has a network of its own, unless the kind is about one address. */
const addressOf = (index: number): string => `127.${10 + (index % 200)}.${1 + Math.floor(index / 200)}.1`
const ONE_ADDRESS = '127.9.9.9'
const MAX_BUFFERED = 256 * 1024
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

async function makeUsers(server: ServerAddress, count = USERS): Promise<BenchUser[]> {
  const users: BenchUser[] = []
  for (let i = 0; i < count; i++) users.push(await createUser())
  await registerUsers(server, users, (index) => addressOf(index))
  return users
}

/** Connects again whenever it is thrown out, and goes on. */
async function keepAt(parts: AbuseParts, open: () => Promise<Peer>, abuse: (peer: Peer) => Promise<void>) {
  while (!parts.isStopped()) {
    const peer = await open().catch(() => undefined)
    if (peer === undefined) await pause(50)
    else await abuse(peer).catch(() => undefined)
    await peer?.close().catch(() => undefined)
  }
}

/** Sends as fast as the socket takes it. */
async function flood(parts: AbuseParts, peer: Peer, payload: Uint8Array, messages: number): Promise<void> {
  while (!parts.isStopped() && peer.isOpen()) {
    if (peer.bufferedBytes() > MAX_BUFFERED) await pause(1)
    else {
      peer.sendEncoded(payload)
      parts.count(messages)
      if (peer.bufferedBytes() === 0) await pause(0)
    }
  }
}

const encodeMany = (message: (index: number) => Parameters<typeof encodeMessage>[0]): Uint8Array => {
  const one = Array.from({ length: 64 }, (_, i) => encodeMessage(message(i)))
  // An array of 64: major type 4 with a length of one byte.
  return Buffer.concat([Buffer.from([0x98, 64]), ...one])
}

const open = (parts: AbuseParts, user: BenchUser, index: number, isReceiver: boolean, address = addressOf(index)) =>
  connectPeer({
    server: parts.server,
    identity: identityOf(user, isReceiver ? user.receiver : user.publisher),
    signer: (isReceiver ? user.receiver : user.publisher).signer,
    localAddress: address,
    onLost: () => undefined,
  })

/** One session of each device of as many users as make up the connections. */
const bySessions =
  (
    payload: Uint8Array,
    messages: number,
    prepare?: (parts: AbuseParts, users: BenchUser[]) => Promise<void>,
  ): AbuseKind =>
  async (parts) => {
    const users = await makeUsers(parts.server, Math.ceil(parts.connections / 2))
    await prepare?.(parts, users)
    return async () => {
      const all = users.flatMap((user, index) => [false, true].map((isReceiver) => ({ user, index, isReceiver })))
      await Promise.all(
        all.map(({ user, index, isReceiver }) =>
          keepAt(
            parts,
            () => open(parts, user, index, isReceiver),
            (peer) => flood(parts, peer, payload, messages),
          ),
        ),
      )
    }
  }

/** Sessions that register and never do. */
const withoutAccount =
  (payload: Uint8Array, messages: number): AbuseKind =>
  async (parts) => {
    const users: BenchUser[] = []
    for (let i = 0; i < parts.connections; i++) users.push(await createUser())
    return async () => {
      await Promise.all(
        users.map((user, index) =>
          keepAt(
            parts,
            () =>
              connectPeer({
                server: parts.server,
                identity: {
                  ...identityOf(user, user.publisher),
                  mode: 'register',
                  userId: noUserId(),
                  logSeq: 0,
                  logHead: new Uint8Array(32),
                },
                signer: user.publisher.signer,
                localAddress: addressOf(index),
                onLost: () => undefined,
              }),
            (peer) => flood(parts, peer, payload, messages),
          ),
        ),
      )
    }
  }

const revoked: AbuseKind = async (parts) => {
  const [user] = await makeUsers(parts.server, 1)
  if (user === undefined) throw new Error('no user was made')
  const account = { log: user.log, userId: user.userId } as TestAccount
  const author = { signer: user.publisher.signer, deviceId: user.publisher.deviceId, timeMs: Date.now() }
  const cut = { lastSeq: 0, chain: chainStart(crypto, user.userId, user.receiver.deviceId) }
  const revoke = await sealRevoke(account, author, [{ deviceId: user.receiver.deviceId } as TestDevice], cut)
  const manager = await open(parts, user, 0, false)
  const appended = manager.next('device_log_appended')
  manager.send({ type: 'append_device_log', request_id: 1, ...revoke })
  await appended
  await manager.close()
  const payload = encodeMany((i) => ({ type: 'fetch_device_log', request_id: i, after_seq: null }))
  return async () => {
    await Promise.all(
      Array.from({ length: 55 }, (_, index) =>
        keepAt(
          parts,
          () => open(parts, user, 0, true, addressOf(index)),
          (peer) => flood(parts, peer, payload, 64),
        ),
      ),
    )
  }
}

const silentHellos =
  (isOneAddress: boolean): AbuseKind =>
  async (parts) => {
    const user = await createUser()
    const identity = identityOf(user, user.publisher)
    const { createClientHandshake } = await import('@valise/protocol')
    return async () => {
      const sockets = new Set<WebSocket>()
      let index = 0
      while (!parts.isStopped()) {
        const localAddress = isOneAddress ? ONE_ADDRESS : addressOf(index++)
        const socket = new WebSocket(parts.server.url, { perMessageDeflate: false, localAddress })
        sockets.add(socket)
        socket.on('error', () => undefined)
        socket.on('close', () => sockets.delete(socket))
        socket.on('open', () => {
          const pinnedFingerprint = parts.server.fingerprint
          const { hello } = createClientHandshake({
            crypto,
            signer: user.publisher.signer,
            identity,
            pinnedFingerprint,
          })
          socket.send(hello)
          parts.count(1)
        })
        // 64 a second and a little more: enough for every turn that there is.
        await pause(10)
      }
      for (const socket of sockets) socket.terminate()
    }
  }

const slowHeads: AbuseKind = async (parts) => async () => {
  const { hostname, port } = new URL(parts.server.url)
  const openOne = async (): Promise<void> => {
    while (!parts.isStopped()) {
      const socket = connect({ host: hostname, port: Number(port), localAddress: ONE_ADDRESS })
      socket.on('error', () => undefined)
      socket.write('GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ')
      parts.count(1)
      const closed = once(socket, 'close').catch(() => undefined)
      while (!parts.isStopped() && !socket.destroyed) {
        socket.write('a')
        await Promise.race([closed, pause(200)])
      }
      socket.destroy()
      await pause(20)
    }
  }
  await Promise.all(Array.from({ length: 40 * parts.connections }, openOne))
}

const mailboxes: AbuseKind = async (parts) => async () => {
  const { hostname, port } = new URL(parts.server.url)
  const ask = async (index: number): Promise<void> => {
    while (!parts.isStopped()) {
      const socket = connect({ host: hostname, port: Number(port), localAddress: addressOf(index) })
      socket.on('error', () => undefined)
      const id = Buffer.from(crypto.randomBytes(16)).toString('hex')
      for (let i = 0; i < 20; i++) {
        socket.write(`GET /v1/mailboxes/${id}/${i % 8} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`)
        parts.count(1)
      }
      socket.resume()
      await Promise.race([once(socket, 'close').catch(() => undefined), pause(20)])
      socket.destroy()
    }
  }
  await Promise.all(Array.from({ length: parts.connections }, (_, index) => ask(index)))
}

/** A map of 200 000 keys, and a million numbers, as CBOR. */
const HOSTILE_MAP = Buffer.concat([
  Buffer.from([0xba, 0, 3, 0x0d, 0x40]),
  ...Array.from({ length: 200_000 }, (_, i) => Buffer.from(`\x64${i.toString(36).padStart(4, '0')}\x01`, 'latin1')),
]).subarray(0, 1_000_000)
const HOSTILE_ARRAY = Buffer.concat([Buffer.from([0x9a, 0, 0x0e, 0xa6, 0]), Buffer.alloc(960_000, 1)])

const fillLogs = async (parts: AbuseParts, users: BenchUser[]): Promise<void> => {
  const { createSealing } = await import('./sealing.ts')
  const sealing = createSealing()
  const sealed = await sealing.seal(users, LOG_EVENTS, 256)
  await Promise.all(
    users.map(async (user, index) => {
      let stored = 0
      const peer = await connectPeer({
        server: parts.server,
        identity: identityOf(user, user.publisher),
        signer: user.publisher.signer,
        localAddress: addressOf(index),
        onReceipt: () => void stored++,
        onLost: () => undefined,
      })
      const { elements, starts } = sealed[index] ?? { elements: new Uint8Array(0), starts: [0] }
      for (let at = 0; at < LOG_EVENTS; at += 50) {
        peer.sendEncoded(encodePublish(elements.subarray(starts[at], starts[at + 50]), 50))
        while (stored < at - 200 && peer.isOpen()) await pause(2)
      }
      while (stored < LOG_EVENTS && peer.isOpen()) await pause(5)
      await peer.close()
    }),
  )
  await sealing.close()
}

const RESUME = encodeMany(() => ({ type: 'resume', cursor: 0, log_epoch: null }))

export const ABUSE_KINDS: Readonly<Record<string, AbuseKind>> = {
  'acks before an account': withoutAccount(
    encodeMany(() => ({ type: 'ack', cursor: 1 })),
    64,
  ),
  'pings before an account': withoutAccount(
    encodeMany((i) => ({ type: 'ping', id: i })),
    64,
  ),
  'hostile CBOR before an account': withoutAccount(HOSTILE_MAP, 1),
  'a revoked device': revoked,
  acks: bySessions(
    encodeMany(() => ({ type: 'ack', cursor: 1 })),
    64,
  ),
  'device logs': bySessions(
    encodeMany((i) => ({ type: 'fetch_device_log', request_id: i, after_seq: null })),
    64,
  ),
  boxes: bySessions(
    encodeMany((i) => ({ type: 'fetch_envelopes', request_id: i, after_epoch: 0 })),
    64,
  ),
  replays: bySessions(RESUME, 64, fillLogs),
  'hostile CBOR': bySessions(HOSTILE_ARRAY, 1),
  'garbage entries': bySessions(
    encodeMany((i) => ({
      type: 'append_device_log',
      request_id: i,
      entry: crypto.randomBytes(150),
      boxes: [],
      links: [],
    })),
    64,
  ),
  'silent hellos, one address': silentHellos(true),
  'silent hellos, many addresses': silentHellos(false),
  'slow heads': slowHeads,
  mailboxes: mailboxes,
}
