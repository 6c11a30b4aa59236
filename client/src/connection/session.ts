// One session over one connection: connects, shakes hands within a deadline, opens and seals frames, answers pings,
// changes keys when the server asks (never by itself), and says once how it ended. What messages mean is the client's.

import {
  type ClientHandshakeFailure,
  type ClientIdentity,
  type ClientMessage,
  type Crypto,
  createClientHandshake,
  createSessionChannel,
  decodeServerMessages,
  type ErrorCode,
  encodeMessage,
  errorOfClose,
  parseSessionEstablishedFrame,
  type ServerMessage,
  type SessionChannel,
  type SessionEstablished,
  type SessionSecrets,
  type Signer,
} from '@valise/protocol'
import type { PinKeeper } from '../account/pin-keeper.ts'
import type { AlarmCode } from '../alarm.ts'
import type { Clock } from '../clock.ts'
import type { ConnectProblem } from '../connect-problem.ts'
import { boundMessage } from '../server-times.ts'
import type { Connection, Transport } from '../transport.ts'

export type SessionEnd =
  | { readonly type: 'closed_by_server'; readonly code: ErrorCode }
  | { readonly type: 'wrong_server_key' }
  /** The server has changed its key, and the pin has moved: the next session proves the new one. */
  | { readonly type: 'server_key_followed' }
  | { readonly type: 'server_key_alarm'; readonly code: AlarmCode }
  | { readonly type: 'handshake_failed' }
  | { readonly type: 'handshake_timeout' }
  | { readonly type: 'silent' }
  | { readonly type: 'bad_frame' }
  | { readonly type: 'malformed_message'; readonly field: string }
  /** `problem`: why no connection came about, where the platform says it. */
  | { readonly type: 'lost'; readonly problem?: ConnectProblem | undefined }
  /** Asked for by this device: events are missing, a request was refused, its own store failed. */
  | { readonly type: 'given_up'; readonly text: string }
  | { readonly type: 'closed_here' }

export interface SessionHandlers {
  readonly onEstablished: (message: SessionEstablished) => void
  /** New keys are in use: what waited for them may go out. */
  readonly onRekeyed: () => void
  /** Everything but pings and pongs, in order. */
  readonly onMessage: (message: ServerMessage, frameBytes: number) => void
  /** Exactly once. */
  readonly onEnd: (end: SessionEnd) => void
}

export interface SessionParts {
  readonly transport: Transport
  readonly pin: PinKeeper
  readonly crypto: Crypto
  readonly signer: Signer
  readonly identity: ClientIdentity
  readonly clock: Clock
  readonly handlers: SessionHandlers
}

export interface Session {
  /** Does nothing before the session is established or after its end. */
  send(message: ClientMessage): void
  /** Events that may be published under the present keys (SES-2). */
  readonly publishAllowance: number
  close(): void
  /** Ends the session as if it had been lost. */
  abandon(end: SessionEnd): void
  /** Pings at once, with a short deadline: for when the machine was asleep. */
  checkLiveness(): void
  /** The proof of this device is out: the server may have begun the session. */
  readonly isProved: boolean
  pause(): void
  resume(): void
}

const HANDSHAKE_TIMEOUT_MS = 10_000
/** A silent server is pinged after this long and given up after as long again: within a minute in all (SES-4). */
const SILENCE_MS = 20_000
const LIVENESS_TIMEOUT_MS = 5000
/** Far more than the events and requests that may be under way: what is left are answers to pings. */
const MAX_UNSENT_BYTES = 16 * 1024 * 1024
const CLOSE_NORMAL = 1000
/** A client may not send the reserved codes; the server learns no more than that it is over. */
const CLOSE_ABANDONED = 4400

type Stage =
  | { readonly type: 'connecting' }
  | { readonly type: 'awaiting_server_hello'; readonly handshake: ReturnType<typeof createClientHandshake> }
  | { readonly type: 'finishing' }
  | { readonly type: 'awaiting_established'; readonly channel: SessionChannel }
  | { readonly type: 'established'; readonly channel: SessionChannel }
  | { readonly type: 'ended' }

export function openSession(parts: SessionParts): Session {
  const { crypto, clock, handlers, identity, signer, pin } = parts
  let stage: Stage = { type: 'connecting' }
  let wasHeard = true
  /** While nothing is read here, the server's silence says nothing. */
  let isPaused = false
  let isProved = false
  let pingId = 0
  /** Events in both directions under the present keys, and how many they may carry. */
  let eventCount = 0
  let maxEvents = 0
  let cancelTimer = clock.after(HANDSHAKE_TIMEOUT_MS, () => end({ type: 'handshake_timeout' }))

  const end = (reason: SessionEnd): void => {
    if (stage.type === 'ended') return
    const channel = 'channel' in stage ? stage.channel : undefined
    const isPolite = stage.type === 'established' && reason.type === 'closed_here'
    if (isPolite && channel !== undefined) connection.send(channel.sealCloseNotify())
    stage = { type: 'ended' }
    cancelTimer()
    channel?.close()
    // A paused connection would never see the close frame that answers.
    connection.resume?.()
    connection.close(reason.type === 'closed_here' ? CLOSE_NORMAL : CLOSE_ABANDONED, '')
    handlers.onEnd(reason)
  }

  /** Ends the session if the server is not heard in this time, and pings it if it was. */
  const watchSilence = (timeoutMs: number): void => {
    cancelTimer()
    cancelTimer = clock.after(timeoutMs, () => {
      if (!wasHeard && !isPaused) end({ type: 'silent' })
      else ping(SILENCE_MS)
    })
  }

  const ping = (timeoutMs: number): void => {
    wasHeard = false
    pingId = (pingId + 1) % 2 ** 32
    send({ type: 'ping', id: pingId })
    watchSilence(timeoutMs)
  }

  const send = (message: ClientMessage): void => {
    if (stage.type !== 'established') return
    if (message.type === 'publish') eventCount += message.events.length
    connection.send(stage.channel.seal(encodeMessage(message)))
    if (connection.bufferedAmount > MAX_UNSENT_BYTES) {
      end({ type: 'given_up', text: 'The server does not read what this device sends' })
    }
  }

  const startChannel = (secrets: SessionSecrets): SessionChannel =>
    createSessionChannel({ crypto, role: 'client', secrets })

  const receivePayload = (payload: Uint8Array) => {
    const decoded = decodeServerMessages(payload)
    if (!decoded.ok) {
      end(decoded.code === 'bad_frame' ? { type: 'bad_frame' } : { type: 'malformed_message', field: decoded.field })
      return
    }
    for (const decodedMessage of decoded.messages) {
      if (stage.type === 'ended') return
      const message = boundMessage(decodedMessage)
      if (stage.type === 'awaiting_established') {
        if (message.type !== 'session_established') return end({ type: 'bad_frame' })
        stage = { type: 'established', channel: stage.channel }
        watchSilence(SILENCE_MS)
        handlers.onEstablished(message)
      } else if (message.type === 'ping') send({ type: 'pong', id: message.id })
      else if (message.type !== 'pong') {
        if (message.type === 'events') eventCount += message.events.length
        handlers.onMessage(message, payload.length)
      }
    }
  }

  const receiveFrame = (channel: SessionChannel, frame: Uint8Array) => {
    wasHeard = true
    const received = channel.receive(frame)
    switch (received.type) {
      case 'application':
        return receivePayload(received.payload)
      case 'rekey_hint':
        if (!channel.isRekeying()) connection.send(channel.startRekey())
        return
      case 'rekey':
        for (const reply of received.replies) connection.send(reply)
        if (!received.isComplete) return
        eventCount = 0
        handlers.onRekeyed()
        return
      case 'close_notify':
        // The close frame that follows says why.
        return
      case 'failed':
        return end({ type: 'bad_frame' })
    }
  }

  const finishHandshake = async (handshake: ReturnType<typeof createClientHandshake>, text: string): Promise<void> => {
    stage = { type: 'finishing' }
    const result = await handshake.finish(text).catch(() => ({ ok: false, reason: 'handshake_failed' }) as const)
    if (hasEnded()) return
    if (!result.ok) return end(await explainFailure(pin, result))
    pin.learn(result.server.nextFingerprint)
    maxEvents = result.server.policy.hardEvents
    stage = { type: 'awaiting_established', channel: startChannel(result.secrets) }
    isProved = true
    connection.send(result.authText)
  }
  const hasEnded = (): boolean => stage.type === 'ended'

  const onMessage = (data: string | Uint8Array) => {
    switch (stage.type) {
      case 'awaiting_server_hello':
        if (typeof data !== 'string') return end({ type: 'handshake_failed' })
        void finishHandshake(stage.handshake, data)
        return
      case 'awaiting_established': {
        const frame = typeof data === 'string' ? parseSessionEstablishedFrame(data) : undefined
        if (frame === undefined) return end({ type: 'handshake_failed' })
        return receiveFrame(stage.channel, frame)
      }
      case 'established':
        if (typeof data === 'string') return end({ type: 'bad_frame' })
        return receiveFrame(stage.channel, data)
      case 'connecting':
      case 'finishing':
        return end({ type: 'handshake_failed' })
      case 'ended':
        return
    }
  }

  const onOpen = (): void => {
    if (stage.type !== 'connecting') return
    const { fingerprint, nextFingerprint } = pin.current
    const pinned = { pinnedFingerprint: fingerprint, pinnedNextFingerprint: nextFingerprint }
    const handshake = createClientHandshake({ crypto, signer, identity, ...pinned })
    stage = { type: 'awaiting_server_hello', handshake }
    connection.send(handshake.hello)
  }

  const onClose = (closeCode: number, reason: string, problem?: ConnectProblem): void => {
    const code = errorOfClose(closeCode, reason)
    end(code === undefined ? { type: 'lost', problem } : { type: 'closed_by_server', code })
  }

  const connection: Connection = parts.transport.connect(pin.current.url, { onOpen, onMessage, onClose })
  return {
    send,
    get publishAllowance() {
      return Math.max(0, maxEvents - eventCount)
    },
    close: () => end({ type: 'closed_here' }),
    abandon: end,
    checkLiveness: () => {
      if (stage.type === 'established') ping(LIVENESS_TIMEOUT_MS)
    },
    get isProved() {
      return isProved
    },
    pause: () => {
      isPaused = connection.pause !== undefined
      connection.pause?.()
    },
    resume: () => {
      // What was sent while nothing was read is yet to come.
      if (isPaused) wasHeard = true
      isPaused = false
      connection.resume?.()
    },
  }
}

/** Why a handshake gave no session. Never rejects. */
async function explainFailure(pin: PinKeeper, failure: ClientHandshakeFailure): Promise<SessionEnd> {
  if (failure.reason === 'next_key_changed') return { type: 'server_key_alarm', code: 'server_next_key_changed' }
  if (failure.reason !== 'wrong_server_key') return { type: failure.reason }
  const verdict = await pin.judge(failure.publicKey).catch(() => ({ type: 'unread' }) as const)
  switch (verdict.type) {
    case 'followed':
      return { type: 'server_key_followed' }
    case 'retired':
      return {
        type: 'given_up',
        text: 'The server proved a key that it has replaced: one of its nodes is not updated yet',
      }
    case 'unread':
      return { type: 'given_up', text: 'The server has another key, and the list of its key changes cannot be read' }
    case 'foreign':
      return { type: 'wrong_server_key' }
    case 'alarm':
      return { type: 'server_key_alarm', code: verdict.code }
  }
}
