// A WebSocket as a connection needs it: sending, closing, and whether it is read. Reading stops while there is a
// reason, so that TCP pushes back (P5), and always goes on for the end, which only a socket that is read can see.

import { performance } from 'node:perf_hooks'
import type { Duplex } from 'node:stream'
import type { WebSocket } from 'ws'
import type { PeerSocket } from './connection.ts'
import { setFrameBound } from './frame-bound.ts'
import { createPeerProgress, type PeerProgress } from './peer-progress.ts'
import type { UnacknowledgedBytes } from './tcp-table.ts'

/**
 * `intake`: too much waits for the database; `send_buffer`: the peer takes too little of what it is sent; `work`: the peer
 * has asked for more than it may (LIM-10).
 */
export type PauseReason = 'intake' | 'send_buffer' | 'work'

export interface GatewaySocket extends PeerSocket {
  setPaused(reason: PauseReason, isPaused: boolean): void
  /** Is not read for so long from now. */
  rest(restMs: number): void
  isResting(): boolean
  /** More waits for the peer than its bound. */
  isFull(): boolean
  lookAtProgress(): (unacknowledged: UnacknowledgedBytes | undefined) => void
  /** The socket is gone: it counts as paused no more. */
  end(): void
}

export interface PeerSocketParts {
  /** What `socket` writes to. */
  readonly transport: Duplex
  readonly sendBufferBytes: number
  /** Once: the code it was closed with, or `peer` when the other side ended it or fell silent. */
  onClose(code: number | 'peer'): void
  onPaused(isPaused: boolean): void
  /** It is not read because of what it owes; among those that are paused. */
  onResting(isResting: boolean): void
}

/** A socket that does not answer the close frame is cut after this, also when the frame waits behind what it never read. */
const CLOSE_GRACE_MS = 5000

export function createPeerSocket(socket: WebSocket, parts: PeerSocketParts): GatewaySocket {
  const { transport } = parts
  const reasons = new Set<PauseReason>()
  let hasEnded = false
  /** Made for the few that ever fill their buffer. */
  let progress: PeerProgress | undefined
  /** Made for the few that ever owe work. */
  let resting: { untilMs: number; timer: NodeJS.Timeout } | undefined

  const change = (reason: PauseReason, isPaused: boolean): void => {
    if (reasons.has(reason) === isPaused) return
    const wasPaused = reasons.size > 0
    if (isPaused) reasons.add(reason)
    else reasons.delete(reason)
    if (reason === 'work') parts.onResting(isPaused)
    if (wasPaused === reasons.size > 0) return
    if (wasPaused) socket.resume()
    else socket.pause()
    parts.onPaused(!wasPaused)
  }
  const setPaused = (reason: PauseReason, isPaused: boolean): void => {
    if (!hasEnded) change(reason, isPaused)
  }
  const end = (): void => {
    hasEnded = true
    clearTimeout(resting?.timer)
    for (const reason of [...reasons]) change(reason, false)
  }

  /** One timer, however often more is owed meanwhile. */
  const wake = (): void => {
    const leftMs = (resting?.untilMs ?? 0) - performance.now()
    resting = leftMs < 1 || resting === undefined ? undefined : { ...resting, timer: setTimeout(wake, leftMs).unref() }
    if (resting === undefined) setPaused('work', false)
  }

  const noteClose = (code: number | 'peer'): void => {
    if (!hasEnded) parts.onClose(code)
  }

  return {
    send: (data) => {
      if (socket.readyState !== socket.OPEN) return
      socket.send(data)
      // Who does not take his answers is asked nothing more: they would gather here without a bound.
      if (socket.bufferedAmount <= parts.sendBufferBytes) return
      progress ??= createPeerProgress(transport)
      setPaused('send_buffer', true)
    },
    gatherTurn: () => {
      transport.cork()
      process.nextTick(() => transport.uncork())
    },
    close: (code, reason) => {
      noteClose(code)
      end()
      socket.close(code, reason)
      const cut = setTimeout(() => socket.terminate(), CLOSE_GRACE_MS).unref()
      socket.once('close', () => clearTimeout(cut))
    },
    bufferedBytes: () => socket.bufferedAmount,
    progress: () => progress?.sightings() ?? 0,
    isFull: () => reasons.has('send_buffer'),
    lookAtProgress: () => progress?.look() ?? (() => {}),
    isRead: () => reasons.size === 0,
    noteDrained: () => {
      if (socket.bufferedAmount <= parts.sendBufferBytes) setPaused('send_buffer', false)
    },
    boundFrames: (maxBytes) => setFrameBound(socket, maxBytes),
    setPaused,
    isResting: () => reasons.has('work'),
    rest: (restMs) => {
      if (hasEnded) return
      setPaused('work', true)
      const untilMs = performance.now() + restMs
      if (resting === undefined) resting = { untilMs, timer: setTimeout(wake, restMs).unref() }
      else resting.untilMs = Math.max(resting.untilMs, untilMs)
    },
    end: () => {
      noteClose('peer')
      end()
    },
  }
}
