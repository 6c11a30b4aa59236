// A bus that breaks its announcements of events as a plan says: lost, doubled, held back and handed on in another order.
// It wraps the real bus of a node, on the hearing side, and leaves word about sessions and devices alone. What is held
// comes when later announcements push it out, or on demand: never by the clock.

import type { Announcement, AnnouncementHandler, Bus, EventsAnnouncement } from '../../src/bus/bus.ts'
import type { SeededRandom } from './seeded-random.ts'

/** `hold` keeps an announcement back until `passing` later ones have overtaken it. */
export type Fault =
  | { readonly type: 'pass' }
  | { readonly type: 'lose' }
  | { readonly type: 'double' }
  | { readonly type: 'hold'; readonly passing: number }

export type FaultPlan = (announcement: EventsAnnouncement) => Fault

export interface FaultBus {
  /** For `AppOverrides.bus`; again at each start of the node. */
  wrap(built: Bus): Bus
  /** From now on; `isEchoing` lets the node hear its own announcements too, for a node that has no neighbour. */
  setPlan(plan: FaultPlan, options?: { readonly isEchoing?: boolean }): void
  /** Hands on everything that is held, the newest first. */
  release(): void
  /** What was done so far. */
  readonly counts: Readonly<Record<Fault['type'], number>>
}

interface Listener {
  readonly userId: Uint8Array
  hear(announcement: Announcement): void
  release(): void
}

export const passAll: FaultPlan = () => ({ type: 'pass' })

export const randomPlan = (random: SeededRandom): FaultPlan => {
  const faults: readonly Fault[] = [
    { type: 'pass' },
    { type: 'lose' },
    { type: 'double' },
    { type: 'hold', passing: 1 },
    { type: 'hold', passing: 3 },
  ]
  return () => random.pick(faults)
}

export function createFaultBus(): FaultBus {
  const counts = { pass: 0, lose: 0, double: 0, hold: 0 }
  const listeners = new Set<Listener>()
  let plan = passAll
  let isEchoing = false

  const createListener = (userId: Uint8Array, handler: AnnouncementHandler): Listener => {
    let held: { readonly announcement: EventsAnnouncement; passing: number }[] = []

    const handOn = (announcement: EventsAnnouncement): void => {
      handler(announcement)
      const due = held.filter((waiting) => --waiting.passing <= 0)
      held = held.filter((waiting) => waiting.passing > 0)
      for (const waiting of due) handler(waiting.announcement)
    }

    return {
      userId,
      hear: (announcement) => {
        if (announcement.type !== 'events') return handler(announcement)
        const fault = plan(announcement)
        counts[fault.type]++
        switch (fault.type) {
          case 'lose':
            return
          case 'pass':
            return handOn(announcement)
          case 'double':
            handOn(announcement)
            return handOn(announcement)
          case 'hold':
            held.push({ announcement, passing: fault.passing })
        }
      },
      release: () => {
        const released = held.reverse()
        held = []
        for (const { announcement } of released) handler(announcement)
      },
    }
  }

  return {
    wrap: (bus) => ({
      publish: async (announcement) => {
        await bus.publish(announcement)
        if (!isEchoing || announcement.type !== 'events') return
        for (const listener of [...listeners]) {
          if (Buffer.compare(listener.userId, announcement.userId) === 0) listener.hear(announcement)
        }
      },
      subscribe: async (userId, handler, context) => {
        const listener = createListener(userId, handler)
        listeners.add(listener)
        const subscription = await bus.subscribe(userId, listener.hear, context)
        return {
          close: () => {
            listeners.delete(listener)
            return subscription.close()
          },
        }
      },
      onGap: (handler) => bus.onGap(handler),
      get isHealthy() {
        return bus.isHealthy
      },
      close: () => {
        listeners.clear()
        return bus.close()
      },
    }),
    setPlan: (next, options = {}) => {
      plan = next
      isEchoing = options.isEchoing ?? false
    },
    release: () => {
      for (const listener of listeners) listener.release()
    },
    counts,
  }
}
