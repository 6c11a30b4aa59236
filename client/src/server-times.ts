// The one place where a time that a server names gets its bounds. Messages pass through `boundMessage` before anything
// else of this client sees them, so a server can neither make a device hurry without end nor put it to sleep.

import { DEFAULT_LIMITS, type Limits, type ServerMessage } from '@valise/protocol'

const MIN_WAIT_MS = 250
const MAX_WAIT_MS = 3_600_000
/** What a refusal without a time stands for. */
export const DEFAULT_WAIT_MS = 1000
/** No session is older (SES-2). */
const MAX_SESSION_MS = 86_400_000

const clamp = (value: number, min: number, max: number): number => Math.min(max, Math.max(min, value))

/** A wait that a server asks for, in milliseconds. */
export const boundWait = (waitMs: number): number => clamp(waitMs, MIN_WAIT_MS, MAX_WAIT_MS)

/** How long a session lasts that ends in so many milliseconds. */
export const boundSessionEnd = (remainingMs: number): number => clamp(remainingMs, MIN_WAIT_MS, MAX_SESSION_MS)

export function boundMessage(message: ServerMessage): ServerMessage {
  switch (message.type) {
    case 'draining':
      return { ...message, reconnect_after_ms: boundWait(message.reconnect_after_ms) }
    case 'unavailable':
      return { ...message, retry_after_ms: boundWait(message.retry_after_ms) }
    case 'error':
    case 'refused':
      return message.retry_after_ms === undefined
        ? message
        : { ...message, retry_after_ms: boundWait(message.retry_after_ms) }
    case 'pairing_opened':
      return { ...message, lifetime_ms: boundWait(message.lifetime_ms) }
    case 'session_established':
      return { ...message, limits: boundLimits(message.limits) }
    default:
      return message
  }
}

/** A server may allow less than this protocol does, and never nothing. */
function boundLimits(limits: Limits): Limits {
  const atMost = (name: 'max_payload' | 'max_frame' | 'max_batch_events'): number =>
    clamp(limits[name], 1, DEFAULT_LIMITS[name])
  return {
    ...limits,
    max_payload: atMost('max_payload'),
    max_frame: atMost('max_frame'),
    max_batch_events: atMost('max_batch_events'),
  }
}
