// The far side of one connection in memory: handshake, frames and messages of a test server, without what they mean.

import {
  type ClientIdentity,
  type ClientMessage,
  createServerHandshake,
  createSessionChannel,
  type DeviceId,
  decodeClientMessages,
  encodeMessage,
  encodeSessionEstablishedFrame,
  type ServerMessage,
  type SessionChannel,
  type SessionEstablished,
  type Signer,
} from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import type { Connection, TransportHandlers } from '../../src/transport.ts'

export interface Peer {
  readonly deviceId: DeviceId
  send(message: ServerMessage): void
  /** Asks the client for new session keys. */
  hint(): void
  close(code: number, reason: string): void
  isLive: boolean
}

export interface PeerParts {
  readonly signer: Signer
  readonly nextFingerprint: Uint8Array
  readonly isReachable: boolean
  publicKeyOf(claim: ClientIdentity): Uint8Array | undefined
  greet(claim: ClientIdentity, sessionId: Uint8Array): SessionEstablished
  distort(message: ServerMessage): ServerMessage[]
  onOpen(peer: Peer): void
  onMessage(peer: Peer, message: ClientMessage): void
  onClose(peer: Peer): void
}

export const SERVER_TIME_MS = 1_700_000_000_000
const POLICY = { timeMs: SERVER_TIME_MS, softEvents: 800, hardEvents: 1000, maxAgeS: 86_400, maxFrame: 1_048_576 }

/** Everything crosses in microtasks, as a transport's handlers never run inside a call. */
export function acceptPeer(
  handlers: TransportHandlers,
  parts: PeerParts,
): Connection & { cut(code: number, reason: string): void } {
  const handshake = createServerHandshake({
    crypto,
    signer: parts.signer,
    nextFingerprint: parts.nextFingerprint,
    policy: () => POLICY,
  })
  let channel: SessionChannel | undefined
  let peer: Peer | undefined
  let isOpen = true
  const later = (task: () => void): void => queueMicrotask(() => isOpen && task())
  const toClient = (data: string | Uint8Array): void => later(() => handlers.onMessage(data))
  const close = (code: number, reason: string): void => {
    later(() => {
      isOpen = false
      if (peer !== undefined) parts.onClose(peer)
      handlers.onClose(code, reason)
    })
  }

  const authenticate = (text: string): void => {
    const auth = handshake.receiveAuth(text)
    const secrets = auth.ok ? auth.verify(parts.publicKeyOf(auth.claim)) : undefined
    if (!auth.ok || secrets === undefined) return close(4401, '')
    const { sessionId } = secrets
    const opened = createSessionChannel({ crypto, role: 'server', secrets })
    channel = opened
    peer = {
      deviceId: auth.claim.deviceId,
      isLive: false,
      send: (message) => {
        for (const told of parts.distort(message)) toClient(opened.seal(encodeMessage(told)))
      },
      hint: () => toClient(opened.sealRekeyHint()),
      close,
    }
    parts.onOpen(peer)
    const [greeting, ...more] = parts.distort(parts.greet(auth.claim, sessionId))
    if (greeting !== undefined) toClient(encodeSessionEstablishedFrame(opened.seal(encodeMessage(greeting))))
    for (const told of more) toClient(opened.seal(encodeMessage(told)))
  }

  const receive = async (data: string | Uint8Array): Promise<void> => {
    if (typeof data !== 'string') {
      const received = channel?.receive(data)
      if (received?.type === 'rekey') for (const reply of received.replies) toClient(reply)
      if (received?.type !== 'application' || peer === undefined) return
      const decoded = decodeClientMessages(received.payload)
      if (!decoded.ok) throw new Error('the client sent what no server reads')
      for (const message of decoded.messages) parts.onMessage(peer, message)
    } else if (data.includes('client_hello')) {
      const hello = await handshake.receiveHello(data)
      if (hello.ok) toClient(hello.reply)
      else close(4401, '')
    } else authenticate(data)
  }

  if (parts.isReachable) later(handlers.onOpen)
  else close(1006, '')
  return {
    send: (data) => later(() => void receive(typeof data === 'string' ? data : data.slice())),
    close,
    cut: close,
    bufferedAmount: 0,
  }
}
