// The handlers that listen for one user on this node. One that throws is counted and logged, and harms no other.

import type { Log } from '../telemetry/log.ts'
import type { BusMetrics } from '../telemetry/metrics.ts'
import type { Announcement, AnnouncementHandler, SubscriberContext } from './bus.ts'

export interface Subscriber {
  readonly handler: AnnouncementHandler
  readonly context: SubscriberContext
}

export type Deliver = (subscribers: ReadonlySet<Subscriber>, announcement: Announcement) => void

/** `onHandlerError` lets an implementation count a failure under its own name too. */
export function createDeliver(parts: { log: Log; metrics: BusMetrics; onHandlerError?: () => void }): Deliver {
  return (subscribers, announcement) => {
    if (subscribers.size > 0) parts.metrics.countAnnouncement('in', 'ok')
    for (const { handler, context } of subscribers) {
      try {
        handler(announcement)
      } catch (err) {
        parts.metrics.countAnnouncement('in', 'failed')
        parts.onHandlerError?.()
        parts.log.error(
          { event: 'bus.handler.failed', err, announcement: announcement.type, device: context.deviceHash },
          'A handler of announcements failed',
        )
      }
    }
  }
}

/** The listeners for gaps, with the same promise. */
export interface GapListeners {
  add(handler: () => void): () => void
  call(): void
  clear(): void
}

export function createGapListeners(log: Log): GapListeners {
  const handlers = new Set<() => void>()
  return {
    add: (handler) => {
      // A wrapper, so that adding one function twice and removing it once leaves it once.
      const entry = () => handler()
      handlers.add(entry)
      return () => {
        handlers.delete(entry)
      }
    },
    call: () => {
      for (const handler of handlers) {
        try {
          handler()
        } catch (err) {
          log.error({ event: 'bus.gap_handler.failed', err }, 'A handler of gaps failed')
        }
      }
    },
    clear: () => handlers.clear(),
  }
}
