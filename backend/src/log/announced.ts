// What another node announces, as this one takes it: events are handed on only where they are exactly what comes next.
// Pure.

import { lifetimeOf } from '@valise/protocol'
import type { Announcement, EventsAnnouncement } from '../bus/bus.ts'
import type { LogItem } from '../db/queries/events.ts'

/** Word that can end a session. */
export type EndingHint = Extract<
  Announcement,
  { type: 'device_revoked' } | { type: 'account_deleted' } | { type: 'session_superseded' }
>

/**
 * `relay`: they continue the log at `head`, one after the other. `known`: nothing of it is new. `read`: some may be
 * missing, or left out, or untrue; the log says what is so. `head` is undefined while nobody knows it.
 */
export type AnnouncedVerdict = 'relay' | 'known' | 'read'

export function judgeAnnounced(
  head: number | undefined,
  { from, to, items }: Pick<EventsAnnouncement, 'from' | 'to' | 'items'>,
): AnnouncedVerdict {
  if (head === undefined) return 'read'
  if (to <= head) return 'known'
  if (items === undefined || from !== head + 1 || items.length !== to - head) return 'read'
  return items.every(({ userSeq }, i) => userSeq === from + i) ? 'relay' : 'read'
}

/** Its lifetime is over at this time. */
export function hasEnded({ storedAtMs, wire }: LogItem, atMs: number): boolean {
  const lifetimeS = wire === undefined ? 0 : lifetimeOf(wire)
  return lifetimeS > 0 && storedAtMs + lifetimeS * 1000 <= atMs
}
