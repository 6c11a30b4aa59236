// One authenticated connection at frame level: opens and seals frames, changes keys in band (PROTOCOL B), bounds what
// waits in the socket, and knows how silent the peer has been. What messages mean is messages.ts and publishing.ts.

import {
  type ClientMessage,
  type ClosingErrorCode,
  decodeClientMessages,
  ERRORS,
  encodeMessage,
  encodeSessionEstablishedFrame,
  type ServerMessage,
  type SessionChannel,
  type SessionEstablished,
} from '@valise/protocol'
import { frameCost, INVALID_COST, MISCONDUCT_COST, type Microseconds } from '../limits/costs.ts'
import type { RotationCounter, SessionKeyState } from './session-rotation.ts'

/** The socket as a connection needs it. Methods, here and below: getters would cost each of many thousand objects a hash table. */
export interface PeerSocket {
  /** Text only for the frame that ends the handshake. */
  send(data: Uint8Array | string): void
  close(code: number, reason: string): void
  /** What is sent from now until this turn of the event loop ends leaves in one write. */
  gatherTurn(): void
  /** Bytes handed to `send` that the kernel has not taken. */
  bufferedBytes(): number
  /** Grows whenever the peer is seen to take bytes of a full buffer; never falls. */
  progress(): number
  /** False while nothing the peer sends is looked at, so that its silence says nothing. */
  isRead(): boolean
  /** Bytes were taken: goes on reading when few enough are left. */
  noteDrained(): void
  /** Gathers at most so many bytes of a frame. */
  boundFrames(maxBytes: number): void
}

export interface ConnectionParts {
  readonly socket: PeerSocket
  readonly channel: SessionChannel
  readonly rotation: RotationCounter
  readonly canRekey: boolean
  readonly establishedAtMs: number
  readonly sendBufferBytes: number
  readonly slowConsumerMs: number
  readonly pingIntervalMs: number
  now(): number
  /** Microseconds of work that the peer is to pay for (LIM-10). */
  charge(cost: Microseconds): void
  onMessage(message: ClientMessage): void
  /** New keys stand in both directions: held delivery may go on. */
  onRekeyed(): void
}

export interface Connection {
  /** Sends `session_established`, in the text frame that ends the handshake (PROTOCOL A). */
  greet(message: SessionEstablished): void
  receive(frame: Uint8Array): void
  /** From now on frames may have so many bytes. */
  allowFrames(maxBytes: number): void
  send(message: ServerMessage): void
  sendEncoded(payload: Uint8Array): void
  countPublished(events: number): void
  /** Events that may be delivered now; 0 while the socket is full or the keys are used up. */
  allowance(): number
  /** False while the socket's buffer is above its bound. */
  hasRoom(): boolean
  countDelivered(events: number): void
  keyState(): SessionKeyState
  /** True while a client that can rekey still has time to do so. */
  mayStillRekey(): boolean
  /** Pings a silent peer; the code to close with when it is gone or takes nothing. */
  tick(): ClosingErrorCode | 'gone' | undefined
  /** The peer may have taken some of what waits. */
  onTaken(): void
  close(code: ClosingErrorCode): void
  /** The socket is gone: what is left of the keys is overwritten. */
  end(): void
  isClosed(): boolean
}

const MISCONDUCT: ReadonlySet<ClosingErrorCode> = new Set(['bad_frame', 'bad_message', 'frame_too_large'])
/** A client told to rekey has this long after the hard limit (PROTOCOL B). */
const REKEY_GRACE_MS = 30_000
/** Messages that do not fit their schema, before the connection is closed. */
const MAX_INVALID_MESSAGES = 16

export function createConnection(parts: ConnectionParts): Connection {
  const { socket, channel, rotation, now } = parts
  let isClosed = false
  let heardAtMs = now()
  let pingId = 0
  let pingedAtMs: number | undefined
  /** Since when the peer has taken nothing of a full buffer, and its progress then. */
  let full: { readonly sinceMs: number; readonly progress: number } | undefined
  let exhaustedSinceMs: number | undefined
  let invalidMessages = 0
  let maxFrameBytes = 0

  const close = (code: ClosingErrorCode): void => {
    if (isClosed) return
    isClosed = true
    if (MISCONDUCT.has(code)) parts.charge(MISCONDUCT_COST)
    const { close: closeCode, text } = ERRORS[code]
    if (code !== 'bad_frame') socket.send(channel.sealCloseNotify())
    socket.close(closeCode, text)
  }

  const sendEncoded = (payload: Uint8Array): void => {
    if (isClosed) return
    socket.send(channel.seal(payload))
    if (!hasRoom()) full ??= { sinceMs: now(), progress: socket.progress() }
  }

  const hasRoom = (): boolean => socket.bufferedBytes() <= parts.sendBufferBytes

  /** When the peer took some, or all, what is left has its full time again. */
  const noteProgress = (nowMs: number): void => {
    socket.noteDrained()
    const progress = socket.progress()
    if (hasRoom()) full = undefined
    else if (full !== undefined && progress > full.progress) full = { sinceMs: nowMs, progress }
  }

  const ping = (): void => {
    pingId = (pingId + 1) % 2 ** 32
    sendEncoded(encodeMessage({ type: 'ping', id: pingId }))
  }

  const hintWhenDue = (): void => {
    if (parts.canRekey && rotation.takeHint()) socket.send(channel.sealRekeyHint())
    if (rotation.remaining() === 0) exhaustedSinceMs ??= now()
  }

  const warnWhenExpiring = (): void => {
    const expiresAtMs = rotation.takeExpiryNotice(parts.establishedAtMs, now())
    if (expiresAtMs !== undefined) sendEncoded(encodeMessage({ type: 'session_expiring', expires_at: expiresAtMs }))
  }

  const receivePayload = (payload: Uint8Array): void => {
    const decoded = decodeClientMessages(payload)
    if (decoded.ok) {
      for (const message of decoded.messages) {
        if (isClosed) return
        parts.onMessage(message)
      }
      return
    }
    parts.charge(INVALID_COST)
    if (decoded.code === 'bad_frame') return close('bad_frame')
    if (++invalidMessages > MAX_INVALID_MESSAGES) return close('bad_message')
    sendEncoded(encodeMessage({ type: 'error', code: 'invalid_message', field: decoded.field }))
  }

  return {
    greet: (message) => {
      if (isClosed) return
      // The presence of the other devices follows at once.
      socket.gatherTurn()
      socket.send(encodeSessionEstablishedFrame(channel.seal(encodeMessage(message))))
    },
    allowFrames: (maxBytes) => {
      maxFrameBytes = maxBytes
      // Twice as much, so that a frame just above it is answered with the protocol's own code.
      socket.boundFrames(2 * maxBytes)
    },
    receive: (frame) => {
      if (isClosed) return
      if (frame.length > maxFrameBytes) return close('frame_too_large')
      heardAtMs = now()
      pingedAtMs = undefined
      parts.charge(frameCost(frame.length))
      const received = channel.receive(frame)
      switch (received.type) {
        case 'application':
          warnWhenExpiring()
          return receivePayload(received.payload)
        case 'rekey':
          for (const reply of received.replies) socket.send(reply)
          if (!received.isComplete) return rotation.restartDelivered()
          rotation.restartPublished()
          exhaustedSinceMs = undefined
          // What was delivered since the answer to the client's first half counts under the new keys.
          hintWhenDue()
          return parts.onRekeyed()
        case 'close_notify':
          isClosed = true
          return socket.close(1000, '')
        case 'rekey_hint':
        case 'failed':
          return close('bad_frame')
      }
    },
    send: (message) => sendEncoded(encodeMessage(message)),
    sendEncoded,
    countPublished: (events) => {
      rotation.countPublished(events)
      hintWhenDue()
    },
    allowance: () => (isClosed || !hasRoom() ? 0 : rotation.remaining()),
    hasRoom,
    countDelivered: (events) => {
      rotation.countDelivered(events)
      hintWhenDue()
    },
    keyState: () => ({ establishedAtMs: parts.establishedAtMs, eventCount: rotation.eventCount() }),
    mayStillRekey: () => {
      // What asks the client may still wait in the socket, and its answer unread: its time begins after.
      const mayBeUnderWay = socket.bufferedBytes() > 0 || !socket.isRead()
      if (exhaustedSinceMs !== undefined && mayBeUnderWay) exhaustedSinceMs = now()
      const isLate = exhaustedSinceMs !== undefined && now() - exhaustedSinceMs >= REKEY_GRACE_MS
      return parts.canRekey && !rotation.isOverPublished() && !isLate
    },
    tick: () => {
      if (isClosed) return undefined
      warnWhenExpiring()
      const nowMs = now()
      noteProgress(nowMs)
      if (full !== undefined && nowMs - full.sinceMs >= parts.slowConsumerMs) return 'slow_consumer'
      if (!socket.isRead()) {
        // What it says waits in the socket. It shall hear that the server lives, twice as often as it would ask.
        pingedAtMs = undefined
        if (full !== undefined || nowMs - heardAtMs < parts.pingIntervalMs / 2) return undefined
        heardAtMs = nowMs
        ping()
        return undefined
      }
      if (pingedAtMs !== undefined) return nowMs - pingedAtMs >= 2 * parts.pingIntervalMs ? 'gone' : undefined
      if (nowMs - heardAtMs < parts.pingIntervalMs) return undefined
      pingedAtMs = nowMs
      ping()
      return undefined
    },
    onTaken: () => noteProgress(now()),
    close,
    end: () => {
      isClosed = true
      channel.close()
    },
    isClosed: () => isClosed,
  }
}
