// A device at protocol level, over a real socket: the test decides what is sent and when, and everything the server
// says is kept. Sockets can be destroyed at any moment, and events sent again byte for byte. It waits for conditions,
// never for time.

import {
  type ClientIdentity,
  type ClientMessage,
  createClientHandshake,
  createSessionChannel,
  decodeServerMessages,
  encodeMessage,
  parseSessionEstablishedFrame,
  type Receipt,
  type Refused,
  type ServerMessage,
  type SessionChannel,
  type SessionEstablished,
  type Signer,
} from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { WebSocket } from 'ws'
import { type ReceivedEvent, readEvents } from './received-event.ts'
import { answerRekey, type OnRekeyStep } from './rekey-steps.ts'

const DEADLINE_MS = 20_000

export interface CloseFrame {
  /** 1006 when the connection broke without one. */
  readonly code: number
  readonly reason: string
}

export interface RawSocket {
  readonly socket: WebSocket
  /** The next text frame; rejects when the socket closes first. */
  nextText(): Promise<string>
  readonly closed: Promise<CloseFrame>
}

/** Opens a socket and nothing more: for whoever speaks the handshake by hand. */
export async function dial(url: string, signal?: AbortSignal): Promise<RawSocket> {
  const socket = new WebSocket(url, { perMessageDeflate: false })
  signal?.addEventListener('abort', () => socket.terminate())
  const texts: string[] = []
  let take: (() => void) | undefined
  let isClosed = false
  const closed = new Promise<CloseFrame>((resolve) => {
    socket.once('close', (code, reason) => {
      isClosed = true
      take?.()
      resolve({ code, reason: reason.toString('utf8') })
    })
  })
  socket.on('error', () => {})
  socket.on('message', (data, isBinary) => {
    if (isBinary) return
    texts.push(data.toString())
    take?.()
  })
  const opened = new Promise<boolean>((resolve) => {
    socket.once('open', () => resolve(true))
    socket.once('close', () => resolve(false))
  })
  if (!(await opened)) throw new Error('the socket could not be opened')
  return {
    socket,
    closed,
    nextText: async () => {
      while (texts.length === 0) {
        if (isClosed) throw new Error(`the socket was closed with ${(await closed).code}`)
        await new Promise<void>((resolve) => {
          take = resolve
        })
      }
      return texts.shift()!
    },
  }
}

export interface SessionTarget {
  readonly url: string
  readonly fingerprint: Uint8Array
}

export interface RawSession {
  readonly established: SessionEstablished
  /** Everything the server said since, in order. */
  readonly messages: readonly ServerMessage[]
  readonly receipts: readonly Receipt[]
  readonly refusals: readonly Refused[]
  readonly events: readonly ReceivedEvent[]
  /** The `user_seq` up to which this device is complete, by the newest `events` or `caught_up`. */
  readonly through: number
  readonly isCaughtUp: boolean
  readonly phase: number
  readonly closed: Promise<CloseFrame>
  readonly closeFrame: CloseFrame | undefined
  send(...messages: ClientMessage[]): void
  publish(wires: readonly Uint8Array[]): void
  /** Sends a request and resolves with its answer, an `error` too. */
  ask(message: Extract<ClientMessage, { request_id: number }>): Promise<ServerMessage>
  /** Seals bytes that need not be a message. */
  sendPayload(payload: Uint8Array): void
  /** Any bytes as a binary frame. */
  sendFrame(frame: Uint8Array): void
  /** Frames are sealed by it in the order they are sent. */
  readonly channel: SessionChannel
  readonly socket: WebSocket
  /** Resolves when `check` is true after a message or the close; rejects after a deadline, naming `what`. */
  until(what: string, check: () => boolean): Promise<void>
  /** Cuts the connection at once, without a word. */
  drop(): void
  /** Ends the session in order. */
  close(): Promise<void>
}

export interface OpenSessionParts {
  readonly identity: ClientIdentity
  readonly signer: Signer
  /** Called for each message before anything else sees it. */
  readonly onMessage?: (message: ServerMessage) => void
  readonly onRekeyStep?: OnRekeyStep
  /** Cuts the connection, in the middle of the handshake too. */
  readonly signal?: AbortSignal
}

/** Shakes hands; rejects with the close code when the server refuses. */
export async function openSession(target: SessionTarget, parts: OpenSessionParts): Promise<RawSession> {
  const { identity, signer } = parts
  const { socket, nextText, closed } = await dial(target.url, parts.signal)
  const handshake = createClientHandshake({
    crypto: nodeCrypto,
    signer,
    identity,
    pinnedFingerprint: target.fingerprint,
  })
  socket.send(handshake.hello)
  const finished = await handshake.finish(await nextText())
  if (!finished.ok) throw new Error(`the handshake ended with ${finished.reason}`)
  const channel = createSessionChannel({ crypto: nodeCrypto, role: 'client', secrets: finished.secrets })
  // The first binary frame may come in the same packet as the text frame that ends the handshake.
  const early: Buffer[] = []
  const keepEarly = (data: Buffer, isBinary: boolean): void => {
    if (isBinary) early.push(data)
  }
  socket.on('message', keepEarly)
  socket.send(finished.authText)
  const established = readEstablished(channel, await nextText())
  socket.off('message', keepEarly)

  const messages: ServerMessage[] = []
  const receipts: Receipt[] = []
  const refusals: Refused[] = []
  const events: ReceivedEvent[] = []
  const waiters = new Set<() => void>()
  let through = 0
  let isCaughtUp = false
  let closeFrame: CloseFrame | undefined
  const wake = (): void => {
    for (const waiter of [...waiters]) waiter()
  }

  const take = (message: ServerMessage): void => {
    parts.onMessage?.(message)
    messages.push(message)
    if (message.type === 'receipts') receipts.push(...message.receipts)
    if (message.type === 'refused') refusals.push(message)
    if (message.type === 'events') {
      events.push(...readEvents(message))
      through = message.through
    }
    if (message.type === 'caught_up') {
      through = message.user_seq
      isCaughtUp = true
    }
    if (message.type === 'ping') session.send({ type: 'pong', id: message.id })
  }

  const receive = (frame: Buffer): void => {
    const received = channel.receive(frame)
    if (received.type === 'application') {
      const decoded = decodeServerMessages(received.payload)
      if (!decoded.ok) throw new Error(`the server sent what does not parse: ${JSON.stringify(decoded)}`)
      for (const message of decoded.messages) take(message)
    }
    answerRekey(received, channel, socket, parts.onRekeyStep)
    if (received.type === 'failed') socket.close(4400)
    wake()
  }

  let nextRequestId = 1
  const session: RawSession = {
    established,
    messages,
    receipts,
    refusals,
    events,
    get through() {
      return through
    },
    get isCaughtUp() {
      return isCaughtUp
    },
    get phase() {
      return channel.phase()
    },
    closed,
    get closeFrame() {
      return closeFrame
    },
    channel,
    socket,
    send: (...sent) => {
      for (const message of sent) session.sendPayload(encodeMessage(message))
    },
    publish: (wires) => session.send({ type: 'publish', events: [...wires] }),
    ask: async (message) => {
      const request_id = message.request_id || nextRequestId++
      let answer: ServerMessage | undefined
      session.send({ ...message, request_id })
      await session.until(`the answer to ${message.type}`, () => {
        answer = messages.find((candidate) => 'request_id' in candidate && candidate.request_id === request_id)
        return answer !== undefined
      })
      return answer!
    },
    sendPayload: (payload) => session.sendFrame(channel.seal(payload)),
    sendFrame: (frame) => {
      if (socket.readyState === socket.OPEN) socket.send(frame)
    },
    until: (what, check) =>
      new Promise((resolve, reject) => {
        const settle = (done: () => void): void => {
          waiters.delete(look)
          clearTimeout(deadline)
          done()
        }
        const look = (): void => {
          if (check()) settle(resolve)
          else if (closeFrame !== undefined) settle(() => reject(new Error(`closed before ${what}: ${describe()}`)))
        }
        const deadline = setTimeout(
          () => settle(() => reject(new Error(`waited too long for ${what}: ${describe()}`))),
          DEADLINE_MS,
        )
        waiters.add(look)
        look()
      }),
    drop: () => socket.terminate(),
    close: async () => {
      if (socket.readyState === socket.OPEN) socket.send(channel.sealCloseNotify())
      socket.close(1000)
      await closed
    },
  }

  const describe = (): string =>
    JSON.stringify({
      receipts: receipts.length,
      refusals: refusals.map(({ code, device_seq }) => `${code} at ${device_seq}`),
      events: events.length,
      through,
      isCaughtUp,
      phase: channel.phase(),
      close: closeFrame ?? null,
    })

  void closed.then((frame) => {
    closeFrame = frame
    channel.close()
    wake()
  })
  for (const frame of early) receive(frame)
  socket.on('message', (data, isBinary) => {
    if (isBinary && Buffer.isBuffer(data)) receive(data)
  })
  return session
}

function readEstablished(channel: SessionChannel, text: string): SessionEstablished {
  const frame = parseSessionEstablishedFrame(text)
  const received = frame && channel.receive(frame)
  if (received?.type !== 'application') throw new Error('the first frame of the session does not open')
  const decoded = decodeServerMessages(received.payload)
  const [message] = decoded.ok ? decoded.messages : []
  if (message?.type !== 'session_established') throw new Error('the session did not begin with session_established')
  return message
}
