// When session keys must change (SES-2, PROTOCOL B): after an age, counted from the last full handshake, and after a
// number of events, published and delivered, counted from the last change of keys. Pings and acknowledgements are not
// events and never touch the clock. Pure but for the counter, which one connection owns.

export interface RotationLimits {
  readonly maxAgeMs: number
  readonly maxEvents: number
}

export interface SessionKeyState {
  /** Unix milliseconds of the last full handshake. */
  readonly establishedAtMs: number
  /** Events in either direction since the last change of keys. */
  readonly eventCount: number
}

export type RotationReason = 'age' | 'events'

/** Why the keys have to change now, or `undefined`. Age counts first when both limits are reached. */
export function rotationReason(
  state: SessionKeyState,
  limits: RotationLimits,
  nowMs: number,
): RotationReason | undefined {
  if (nowMs - state.establishedAtMs >= limits.maxAgeMs) return 'age'
  if (state.eventCount >= limits.maxEvents) return 'events'
  return undefined
}

export function shouldRotateKeys(state: SessionKeyState, limits: RotationLimits, nowMs: number): boolean {
  return rotationReason(state, limits, nowMs) !== undefined
}

/** Events at which the server asks for new keys: 80 % of the limit. */
export const softEventLimit = (limits: RotationLimits): number => Math.floor(limits.maxEvents * 0.8)

/** From this age on a capable client makes its new session, before this one ends: 20 h of 24. */
export const expiryNoticeAgeMs = (limits: RotationLimits): number => Math.floor((limits.maxAgeMs * 20) / 24)

export interface RotationCounter {
  eventCount(): number
  /** Events that may still be delivered under the present keys. */
  remaining(): number
  countPublished(events: number): void
  countDelivered(events: number): void
  /** The sending half of a rekey: deliveries count anew. */
  restartDelivered(): void
  /** The receiving half of a rekey: publishes count anew. */
  restartPublished(): void
  /** True once, when the soft limit is passed under the present keys. */
  takeHint(): boolean
  /** The Unix milliseconds at which the session ends, once, when its client is to be told. */
  takeExpiryNotice(establishedAtMs: number, nowMs: number): number | undefined
  /** True when events published alone have passed the limit: a client that counts cannot do that. */
  isOverPublished(): boolean
}

export function createRotationCounter(limits: RotationLimits): RotationCounter {
  let published = 0
  let delivered = 0
  let isHinted = false
  let isExpiryTold = false
  return {
    eventCount: () => published + delivered,
    remaining: () => Math.max(0, limits.maxEvents - published - delivered),
    countPublished: (events) => {
      published += events
    },
    countDelivered: (events) => {
      delivered += events
    },
    restartDelivered: () => {
      delivered = 0
    },
    restartPublished: () => {
      published = 0
      isHinted = false
    },
    takeHint: () => {
      if (isHinted || published + delivered < softEventLimit(limits)) return false
      isHinted = true
      return true
    },
    takeExpiryNotice: (establishedAtMs, nowMs) => {
      if (isExpiryTold || nowMs - establishedAtMs < expiryNoticeAgeMs(limits)) return undefined
      isExpiryTold = true
      return establishedAtMs + limits.maxAgeMs
    },
    isOverPublished: () => published > limits.maxEvents,
  }
}
