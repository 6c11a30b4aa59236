// The port through which nodes tell each other what happened to a user. It is a hint, never the truth: an announcement
// may be lost, doubled, late or reordered, and the log repairs it (DESIGN 5.6, 7). Announcements are never stored.

import type { WholeItem } from '../db/queries/events.ts'
import type { TraceContext } from '../telemetry/tracing.ts'

/** The log of a user grew by `from … to`; without `items` (too large, or left out) whoever needs them reads the log. */
export interface EventsAnnouncement {
  readonly type: 'events'
  readonly userId: Uint8Array
  readonly from: number
  readonly to: number
  /** In `userSeq` order, within `from … to`. */
  readonly items: readonly WholeItem[] | undefined
  /** Unix milliseconds, by the clock of the node they were published on; only ever measured with. */
  readonly arrivedAtMs: number
  /** Of the span that announces it, when it is traced. */
  readonly trace?: TraceContext | undefined
}

/** A device came online with a session, or went offline with it (PRE-2). */
export interface PresenceAnnouncement {
  readonly type: 'presence'
  readonly userId: Uint8Array
  readonly deviceId: Uint8Array
  readonly sessionNumber: number
  readonly isOnline: boolean
  /** Unix milliseconds. */
  readonly atMs: number
}

export type Announcement =
  | EventsAnnouncement
  | { readonly type: 'device_log'; readonly userId: Uint8Array; readonly seq: number }
  | { readonly type: 'device_revoked'; readonly userId: Uint8Array; readonly deviceId: Uint8Array }
  | { readonly type: 'account_deleted'; readonly userId: Uint8Array }
  | {
      readonly type: 'session_superseded'
      readonly userId: Uint8Array
      readonly deviceId: Uint8Array
      /** Of the session that began: every earlier one of the device ends (SES-3). */
      readonly sessionNumber: number
    }
  | PresenceAnnouncement
  /** A device has pushed out so many bytes of the others as it may in 24 hours (RET-8). */
  | {
      readonly type: 'storage_notice'
      readonly userId: Uint8Array
      readonly deviceId: Uint8Array
      readonly bytes: number
    }

/** Synchronous. What it throws is counted and logged and stops neither other handlers nor later announcements. */
export type AnnouncementHandler = (announcement: Announcement) => void

/** For the log when a channel is left: whose subscription it was. */
export interface SubscriberContext {
  /** The device id as `hashForLog` shows it. */
  readonly deviceHash: string
}

export interface Subscription {
  /** The handler is not called again from this moment. Resolves when the channel is left or others still need it. */
  close(): Promise<void>
}

export interface Bus {
  /** To every other node that listens for the user, never to this one. Never rejects: what cannot be sent is counted. */
  publish(announcement: Announcement): Promise<void>
  /**
   * Resolves when nothing published from now on is missed, or at once while the bus is away: then `onGap` follows when
   * it is back. Never rejects; on a closed bus nothing will be heard.
   */
  subscribe(userId: Uint8Array, handler: AnnouncementHandler, context: SubscriberContext): Promise<Subscription>
  /** Called whenever announcements may have been missed, here or on their way here. Returns how to stop listening. */
  onGap(handler: () => void): () => void
  /** False while announcements cannot travel in both directions. */
  readonly isHealthy: boolean
  /** Leaves every channel, then the bus. Idempotent, never rejects. */
  close(): Promise<void>
}
