// The bus of a node without Redis. Nodes that share an exchange hear each other, asynchronously and in order, as they
// would through Redis; a node alone has nobody to tell.

import { toHex } from '@valise/protocol'
import type { Log } from '../telemetry/log.ts'
import type { BusMetrics } from '../telemetry/metrics.ts'
import type { Announcement, Bus } from './bus.ts'
import { createDeliver, type Subscriber } from './subscribers.ts'

type Receive = (announcement: Announcement) => void

/** What connects the local buses of one process. */
export interface LocalExchange {
  readonly nodes: Set<Receive>
}

export const createLocalExchange = (): LocalExchange => ({ nodes: new Set() })

export interface LocalBusParts {
  readonly log: Log
  readonly metrics: { readonly bus: BusMetrics }
  readonly exchange?: LocalExchange
}

export function createLocalBus({ log, metrics, exchange = createLocalExchange() }: LocalBusParts): Bus {
  const subscribersByUser = new Map<string, Set<Subscriber>>()
  const deliver = createDeliver({ log, metrics: metrics.bus })
  const receive: Receive = (announcement) => {
    const subscribers = subscribersByUser.get(toHex(announcement.userId))
    if (subscribers !== undefined) deliver(subscribers, announcement)
  }
  let isOpen = true
  exchange.nodes.add(receive)
  metrics.bus.setBusHealthy(true)

  return {
    publish: async (announcement) => {
      if (!isOpen) return metrics.bus.countAnnouncementDropped()
      metrics.bus.countAnnouncement('out', 'ok')
      // Never inside the publisher's call: Redis would not do that either.
      await Promise.resolve()
      for (const node of exchange.nodes) if (node !== receive) node(announcement)
    },
    subscribe: async (userId, handler, context) => {
      const subscriber: Subscriber = { handler, context }
      const key = toHex(userId)
      if (isOpen) {
        const subscribers = subscribersByUser.get(key) ?? new Set()
        subscribersByUser.set(key, subscribers.add(subscriber))
      }
      return {
        close: async () => {
          const subscribers = subscribersByUser.get(key)
          subscribers?.delete(subscriber)
          if (subscribers?.size === 0) subscribersByUser.delete(key)
        },
      }
    },
    // Nothing is lost inside a process.
    onGap: () => () => {},
    get isHealthy() {
      return isOpen
    },
    close: async () => {
      isOpen = false
      exchange.nodes.delete(receive)
      subscribersByUser.clear()
      metrics.bus.setBusHealthy(false)
    },
  }
}
