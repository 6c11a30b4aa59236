// The node's fan-out: one hub a user who has a connection here. It hands each transaction's events to the user's
// connections, listens to the user's channel on the bus, and compares heads with the log when word may have been lost.
// It keeps no events: Postgres is the truth, the bus is a hint (DESIGN 5.6).

import { encodeMessage, type LeafItem, lifetimeOf, type StoredEvent, toHex } from '@valise/protocol'
import type { Announcement, Bus, Subscription } from '../bus/bus.ts'
import type { LogItem, WholeItem } from '../db/queries/events.ts'
import type { DeliveryMetrics } from '../telemetry/metrics.ts'
import type { SpanPlace, Tracing } from '../telemetry/tracing.ts'
import type { Delivery, LiveBatch, PageMoment } from './delivery.ts'
import type { StoredBatch } from './intake.ts'

/** Word for a user's connections that is not about events. */
export type ControlAnnouncement = Exclude<Announcement, { type: 'events' }>

export interface Member {
  readonly delivery: Delivery
  onControl(announcement: ControlAnnouncement): void
}

export interface HubsParts {
  readonly bus: Bus
  /** last_user_seq by user key, one query for all. */
  readHeads(userIds: readonly Uint8Array[]): Promise<ReadonlyMap<string, number>>
  onFailure(error: unknown): void
  readonly tracing?: Tracing | undefined
  readonly metrics: Pick<DeliveryMetrics, 'observeEndToEnd' | 'observeRelay'>
  /** Unix milliseconds. */
  now(): number
  /** Milliseconds of a clock that never goes back, the one by which batches say when they arrived. */
  monotonicMs(): number
}

export interface Hubs {
  /** Resolves when the user's channel is heard, so that nothing committed later stays unseen. Detach with the result. */
  attach(userId: Uint8Array, member: Member, context: { readonly deviceHash: string }): Promise<() => Promise<void>>
  /** Events this node has stored: to the connections here, and to the bus. */
  announceStored(batch: StoredBatch): void
  /** Anything else, to the connections here and on every other node. */
  announce(announcement: ControlAnnouncement): void
  /** Compares every hub's head with the log. */
  sweep(): Promise<void>
  readonly userCount: number
}

interface Hub {
  readonly userId: Uint8Array
  readonly members: Set<Member>
  /** Undefined when the bus refused; the sweep of heads then stands in for it. */
  readonly subscription: Promise<Subscription | undefined>
}

export const toLogItems = (batch: StoredBatch): WholeItem[] =>
  batch.events.map(({ event, deviceId, userSeq, streamSeq, storedAtMs }) => ({
    userSeq,
    streamSeq,
    storedAtMs,
    deviceId,
    deviceSeq: event.deviceSeq,
    wire: event.wire,
  }))

function toWireItem(item: LogItem): StoredEvent | LeafItem {
  const { userSeq, streamSeq, storedAtMs } = item
  if (item.wire !== undefined) return [userSeq, streamSeq, storedAtMs, item.wire]
  const { ttlS, flags, inner } = item.leaf
  return [userSeq, streamSeq, storedAtMs, item.deviceId, item.deviceSeq, ttlS, flags, inner]
}

/** The `events` message for a connection; `page` when they were read from the log. */
export function encodeEvents(items: readonly LogItem[], through: number, page?: PageMoment): Uint8Array {
  const moment = page === undefined ? {} : { at: page.atMs, head: page.head }
  return encodeMessage({ type: 'events', events: items.map(toWireItem), through, ...moment })
}

function createLiveBatch(from: number, to: number, items: readonly WholeItem[]): LiveBatch {
  let encoded: Uint8Array | undefined
  return {
    from,
    to,
    items,
    encode: () => {
      encoded ??= encodeEvents(items, to)
      return encoded
    },
  }
}

export function createHubs({ bus, readHeads, onFailure, tracing, metrics, now, monotonicMs }: HubsParts): Hubs {
  const hubByUser = new Map<string, Hub>()
  let sweeping: Promise<void> | undefined
  let isSweepDue = false

  /** A member that fails harms no other: all are served before the first failure is thrown. */
  const forEachMember = (hub: Hub, serve: (member: Member) => void): void => {
    const failures: unknown[] = []
    for (const member of hub.members) {
      try {
        serve(member)
      } catch (error) {
        failures.push(error)
      }
    }
    if (failures.length > 0) throw failures[0]
  }

  /** For what this node does on its own account: a member's failure must not reach the intake. */
  const attempt = (work: () => void): void => {
    try {
      work()
    } catch (error) {
      onFailure(error)
    }
  }

  const hasEnded = ({ storedAtMs, wire }: WholeItem, atMs: number): boolean => {
    const lifetimeS = lifetimeOf(wire)
    return lifetimeS > 0 && storedAtMs + lifetimeS * 1000 <= atMs
  }

  /** True when a live connection was handed events of it. */
  const offer = (hub: Hub, batch: LiveBatch, place: SpanPlace): boolean => {
    const atMs = now()
    if (batch.items.some((item) => hasEnded(item, atMs))) {
      // Word that came late: the log, by the database's clock, says what of it may still be delivered.
      forEachMember(hub, ({ delivery }) => delivery.noteHead(batch.to))
      return false
    }
    const span = place.parent === undefined ? undefined : tracing?.start('event.deliver', place)
    let connections = 0
    try {
      forEachMember(hub, ({ delivery }) => {
        if (delivery.offer(batch)) connections++
      })
    } finally {
      span?.end({ 'valise.events': batch.items.length, 'valise.connections': connections })
    }
    return connections > 0
  }

  const onAnnouncement = (hub: Hub, announcement: Announcement): void => {
    if (announcement.type !== 'events') return forEachMember(hub, (member) => member.onControl(announcement))
    const { from, to, items, arrivedAtMs, trace } = announcement
    if (items !== undefined) {
      // Two nodes' clocks: what they differ by is in it, and never makes it negative.
      if (offer(hub, createLiveBatch(from, to, items), { parent: trace })) {
        metrics.observeEndToEnd('remote', Math.max(0, now() - arrivedAtMs))
      }
      return
    }
    forEachMember(hub, ({ delivery }) => delivery.noteHead(to))
  }

  const openHub = (userKey: string, userId: Uint8Array, context: { readonly deviceHash: string }): Hub => {
    const hub: Hub = {
      userId,
      members: new Set(),
      subscription: bus
        .subscribe(userId, (announcement) => onAnnouncement(hub, announcement), context)
        .catch((error: unknown) => {
          onFailure(error)
          return undefined
        }),
    }
    hubByUser.set(userKey, hub)
    return hub
  }

  const sweep = async (): Promise<void> => {
    const hubs = [...hubByUser.values()]
    if (hubs.length === 0) return
    try {
      const headByUser = await readHeads(hubs.map((hub) => hub.userId))
      for (const hub of hubs) {
        const head = headByUser.get(toHex(hub.userId))
        if (head === undefined) continue
        attempt(() =>
          forEachMember(hub, ({ delivery }) => {
            delivery.noteHead(head)
            delivery.resume()
          }),
        )
      }
    } catch (error) {
      onFailure(error)
    }
  }

  const sweepWhileDue = async (): Promise<void> => {
    while (isSweepDue) {
      isSweepDue = false
      await sweep()
    }
    sweeping = undefined
  }

  return {
    attach: async (userId, member, context) => {
      const userKey = toHex(userId)
      const hub = hubByUser.get(userKey) ?? openHub(userKey, userId, context)
      hub.members.add(member)
      await hub.subscription
      return async () => {
        hub.members.delete(member)
        if (hub.members.size > 0 || hubByUser.get(userKey) !== hub) return
        hubByUser.delete(userKey)
        await (await hub.subscription)?.close()
      }
    },
    announceStored: (batch) => {
      const startedAtMs = monotonicMs()
      const items = toLogItems(batch)
      const from = items[0]?.userSeq
      const to = items.at(-1)?.userSeq
      if (from === undefined || to === undefined) return
      const [parent, ...links] = batch.traces
      const place = { parent, links }
      const hub = hubByUser.get(batch.userKey)
      if (hub !== undefined) {
        attempt(() => {
          if (!offer(hub, createLiveBatch(from, to, items), place)) return
          metrics.observeEndToEnd('local', monotonicMs() - batch.arrivedAtMs)
        })
      }
      const arrivedAtMs = Math.round(now() - (monotonicMs() - batch.arrivedAtMs))
      const span = parent === undefined ? undefined : tracing?.start('bus.announce', place)
      const trace = span?.context
      const announced = bus.publish({ type: 'events', userId: batch.userId, from, to, items, arrivedAtMs, trace })
      if (span !== undefined) void announced.then(() => span.end({ 'valise.events': items.length }))
      metrics.observeRelay(monotonicMs() - startedAtMs)
    },
    announce: (announcement) => {
      const hub = hubByUser.get(toHex(announcement.userId))
      if (hub !== undefined) attempt(() => onAnnouncement(hub, announcement))
      void bus.publish(announcement)
    },
    sweep: () => {
      // One that runs may have read its heads before what is to be found was stored: another follows it.
      isSweepDue = true
      sweeping ??= sweepWhileDue()
      return sweeping
    },
    get userCount() {
      return hubByUser.size
    },
  }
}
