// A WebSocket as a connection needs it: sending, closing, and whether it is read. Reading stops while there is a
// reason, so that TCP pushes back (P5), and always goes on for the end, which only a socket that is read can see.

import type { Duplex } from 'node:stream'
import type { WebSocket } from 'ws'
import type { PeerSocket } from './connection.ts'
import { createPeerProgress, type PeerProgress } from './peer-progress.ts'
import type { UnacknowledgedBytes } from './tcp-table.ts'

/** `intake`: too much waits for the database; `send_buffer`: the peer takes too little of what it is sent. */
export type PauseReason = 'intake' | 'send_buffer'

export interface GatewaySocket extends PeerSocket {
  setPaused(reason: PauseReason, isPaused: boolean): void
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
}

/** A socket that does not answer the close frame is cut after this, also when the frame waits behind what it never read. */
const CLOSE_GRACE_MS = 5000

export function createPeerSocket(socket: WebSocket, parts: PeerSocketParts): GatewaySocket {
  const { transport } = parts
  const reasons = new Set<PauseReason>()
  let hasEnded = false
  /** Made for the few that ever fill their buffer. */
  let progress: PeerProgress | undefined

  const change = (changeReasons: () => void): void => {
    const wasPaused = reasons.size > 0
    changeReasons()
    const isPaused = reasons.size > 0
    if (wasPaused === isPaused) return
    if (isPaused) socket.pause()
    else socket.resume()
    parts.onPaused(isPaused)
  }
  const setPaused = (reason: PauseReason, isPaused: boolean): void => {
    if (hasEnded) return
    change(() => (isPaused ? reasons.add(reason) : reasons.delete(reason)))
  }
  const end = (): void => {
    hasEnded = true
    change(() => reasons.clear())
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
    setPaused,
    end: () => {
      noteClose('peer')
      end()
    },
  }
}
