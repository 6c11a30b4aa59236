// What to do with events that another node announces: hand them on only where they are exactly what comes next. Pure.

import type { EventsAnnouncement } from '../bus/bus.ts'

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
