// One device of the load generator on a real WebSocket: the real handshake, sealed frames, rotation when the server asks.

import { once } from 'node:events'
import {
  type ClientIdentity,
  type ClientMessage,
  createClientHandshake,
  createSessionChannel,
  encodeMessage,
  parseSessionEstablishedFrame,
  type ServerMessage,
  type SessionChannel,
  type Signer,
} from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { WebSocket } from 'ws'
import { readServerPayload } from './messages.ts'

export interface ServerAddress {
  readonly url: string
  readonly fingerprint: Uint8Array
}

export interface PeerParts {
  readonly server: ServerAddress
  readonly identity: ClientIdentity
  readonly signer: Signer
  /** Where the connection comes from, on a machine with several addresses. */
  readonly localAddress?: string
  onEvent?(userSeq: number, wire: Uint8Array): void
  onReceipt?(deviceSeq: number, userSeq: number): void
  /** A close or a failure that this side did not ask for. */
  onLost(reason: Error): void
}

export interface Peer {
  /** An encoded message. */
  sendEncoded(payload: Uint8Array): void
  send(message: ClientMessage): void
  /** The next message of that type; rejects when an error comes first. */
  next<Type extends ServerMessage['type']>(type: Type): Promise<Extract<ServerMessage, { type: Type }>>
  bufferedBytes(): number
  isOpen(): boolean
  /** Resolves when the socket is gone. */
  close(): Promise<void>
}

interface Waiter {
  readonly type: ServerMessage['type']
  resolve(message: ServerMessage): void
  reject(error: Error): void
}

/** Resolves when the session is established. */
export async function connectPeer(parts: PeerParts): Promise<Peer> {
  const { localAddress } = parts
  const socket = new WebSocket(parts.server.url, {
    perMessageDeflate: false,
    skipUTF8Validation: true,
    ...(localAddress === undefined ? {} : { localAddress }),
  })
  const gone = once(socket, 'close').catch(() => undefined)
  const inbox = createInbox(socket)
  await once(socket, 'open')
  const channel = await shakeHands(socket, inbox, parts)
  let isClosing = false
  const waiters: Waiter[] = []

  const fail = (error: Error): void => {
    for (const waiter of waiters.splice(0)) waiter.reject(error)
    if (!isClosing) parts.onLost(error)
  }

  const onMessage = (message: ServerMessage): void => {
    if (message.type === 'ping') return send({ type: 'pong', id: message.id })
    const index = waiters.findIndex((waiter) => waiter.type === message.type)
    const [waiter] = index < 0 ? [] : waiters.splice(index, 1)
    if (waiter !== undefined) return waiter.resolve(message)
    if (message.type === 'refused' || message.type === 'error') fail(new Error(`the server answered ${message.code}`))
    else if (message.type === 'unavailable' || message.type === 'resync_required') fail(new Error(message.type))
  }

  const handlers = {
    onEvent: parts.onEvent ?? (() => undefined),
    onReceipt: parts.onReceipt ?? (() => undefined),
    onMessage,
  }

  const receive = (frame: Uint8Array): void => {
    const received = channel.receive(frame)
    switch (received.type) {
      case 'application':
        return readServerPayload(received.payload, handlers)
      case 'rekey_hint':
        if (!channel.isRekeying()) socket.send(channel.startRekey())
        return
      case 'rekey':
        for (const reply of received.replies) socket.send(reply)
        return
      case 'close_notify':
        return
      case 'failed':
        return fail(new Error('a frame of the server does not open'))
    }
  }

  const send = (message: ClientMessage): void => socket.send(channel.seal(encodeMessage(message)))

  inbox.handOver((frame) => {
    try {
      receive(frame)
    } catch (error) {
      fail(error instanceof Error ? error : new Error('a message could not be handled'))
    }
  })
  socket.on('error', fail)
  socket.on('close', (code, reason) => fail(new Error(`closed with ${code} ${reason.toString()}`)))

  return {
    sendEncoded: (payload) => socket.send(channel.seal(payload)),
    send,
    next: <Type extends ServerMessage['type']>(type: Type) =>
      new Promise<Extract<ServerMessage, { type: Type }>>((resolve, reject) => {
        const isExpected = (message: ServerMessage): message is Extract<ServerMessage, { type: Type }> =>
          message.type === type
        waiters.push({ type, resolve: (message) => isExpected(message) && resolve(message), reject })
      }),
    bufferedBytes: () => socket.bufferedAmount,
    isOpen: () => socket.readyState === socket.OPEN,
    close: async () => {
      isClosing = true
      socket.close(1000)
      await gone
    },
  }
}

async function shakeHands(
  socket: WebSocket,
  inbox: Inbox,
  { server, identity, signer }: PeerParts,
): Promise<SessionChannel> {
  const handshake = createClientHandshake({
    crypto: nodeCrypto,
    signer,
    identity,
    pinnedFingerprint: server.fingerprint,
  })
  socket.send(handshake.hello)
  const result = await handshake.finish((await inbox.next()).toString())
  if (!result.ok) throw new Error(result.reason)
  socket.send(result.authText)
  const channel = createSessionChannel({ crypto: nodeCrypto, role: 'client', secrets: result.secrets })
  const frame = parseSessionEstablishedFrame((await inbox.next()).toString())
  if (frame === undefined || channel.receive(frame).type !== 'application')
    throw new Error('no session was established')
  return channel
}

/** What a socket brings before it has a listener of its own is kept, in order. */
interface Inbox {
  next(): Promise<Buffer>
  handOver(listener: (data: Buffer) => void): void
}

function createInbox(socket: WebSocket): Inbox {
  const kept: Buffer[] = []
  let listener = (data: Buffer): void => void kept.push(data)
  let onEnd = (_error: Error): void => undefined
  const keep = listener
  socket.on('message', (data) => {
    if (Buffer.isBuffer(data)) listener(data)
  })
  socket.on('error', (error) => onEnd(error))
  socket.on('close', (code, reason) => onEnd(new Error(`closed with ${code} ${reason.toString()}`)))
  return {
    next: () =>
      new Promise((resolve, reject) => {
        const first = kept.shift()
        if (first !== undefined) return resolve(first)
        onEnd = reject
        listener = (data) => {
          listener = keep
          resolve(data)
        }
      }),
    handOver: (next) => {
      for (const data of kept.splice(0)) next(data)
      listener = next
    },
  }
}
