// How a node that stops lets its sessions go (SES-5): each is told its moment, spread evenly over a window in random
// order, so that no herd arrives elsewhere; goes on until then; and is closed once what it has in flight is answered.

import { setTimeout as delay } from 'node:timers/promises'
import type { Log } from '../telemetry/log.ts'
import type { Connection } from './connection.ts'

export interface DrainingPeer {
  /** True when there is a session to be told. */
  tell(reconnectAfterMs: number): boolean
  /** Takes nothing more, answers what is in flight, and closes. */
  finish(): Promise<void>
}

export interface DrainParts {
  /** Uniform in [0, 1). */
  random(): number
  after(delayMs: number, task: () => void): void
  onFailure(error: unknown): void
}

/** A client that moves before it is closed has this share of the window to do so, and no more than two seconds. */
const MOVING_SHARE = 0.1
const MAX_MOVING_MS = 2000

/** One moment in each of `count` equal parts of the window, in random order; milliseconds. */
export function spreadDelays(count: number, windowMs: number, random: () => number): number[] {
  const delays = Array.from({ length: count }, (_, i) => Math.floor(((i + random()) / count) * windowMs))
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1))
    const swapped = delays[i] ?? 0
    delays[i] = delays[j] ?? 0
    delays[j] = swapped
  }
  return delays
}

/** Tells every peer its moment and lets each go when it has come; a peer without a session goes at once. */
export function drainPeers(peers: readonly DrainingPeer[], windowMs: number, parts: DrainParts): void {
  const movingMs = Math.min(MAX_MOVING_MS, windowMs * MOVING_SHARE)
  const delays = spreadDelays(peers.length, windowMs, parts.random)
  for (const [i, peer] of peers.entries()) {
    const delayMs = delays[i] ?? 0
    const finish = (): void => void peer.finish().catch(parts.onFailure)
    if (peer.tell(delayMs) && windowMs > 0) parts.after(delayMs + movingMs, finish)
    else finish()
  }
}

export const systemDrainParts = (log: Log): DrainParts => ({
  random: Math.random,
  after: (delayMs, task) => setTimeout(task, delayMs),
  onFailure: (err) => log.error({ event: 'gateway.drain.fail', err }, 'A session could not be let go in order'),
})

/** What is in flight is answered for so long before the session is closed all the same. */
const FINISH_TIMEOUT_MS = 5000

/** What still arrives meanwhile is not read: it is sent again, to another node. */
export async function finishSession(
  connection: Pick<Connection, 'close'>,
  service: { finish(): Promise<void> },
): Promise<void> {
  await Promise.race([service.finish(), delay(FINISH_TIMEOUT_MS, undefined, { ref: false })])
  connection.close('server_draining')
}
