// The node's fan-out: one hub a user who has a connection here. It hands each transaction's events to the user's
// connections, listens to the user's channel on the bus, and compares heads with the log when word may have been lost.
// It keeps no events: Postgres is the truth, the bus is a hint (DESIGN 5.6), so all but events that continue the log
// where this node knows it to end only leads to a look into the database, however often another node says it.

import { encodeMessage, type LeafItem, type StoredEvent, toHex } from '@valise/protocol'
import type { Announcement, Bus, EventsAnnouncement, Subscription } from '../bus/bus.ts'
import type { LogItem, WholeItem } from '../db/queries/events.ts'
import type { DeliveryMetrics } from '../telemetry/metrics.ts'
import type { SpanPlace, Tracing } from '../telemetry/tracing.ts'
import { type EndingHint, hasEnded, judgeAnnounced } from './announced.ts'
import type { Delivery, LiveBatch, PageMoment } from './delivery.ts'
import type { StoredBatch } from './intake.ts'
import { createUserLookups } from './user-lookups.ts'

/** Word for a user's connections that is not about events. */
export type ControlAnnouncement = Exclude<Announcement, { type: 'events' }>

export interface Member {
  readonly delivery: Delivery
  /** True: this node did it, or the database says so. Of presence, another node may have said so. */
  onControl(announcement: ControlAnnouncement): void
  /** Another node says so: to be looked up before it acts. */
  onHint(hint: EndingHint): void
}

export interface HubsParts {
  readonly bus: Bus
  /** last_user_seq by user key, one query for all. */
  readHeads(userIds: readonly Uint8Array[]): Promise<ReadonlyMap<string, number>>
  /** The head of the device log by user key, one query for all. */
  readLogSeqs(userIds: readonly Uint8Array[]): Promise<ReadonlyMap<string, number>>
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
  /** The log of the user has this head: the database said so, to somebody who was attached before it was asked. */
  noteHead(userId: Uint8Array, head: number): void
  /** A backup was put back: what was known of heads is worth nothing. */
  forgetHeads(): void
  /** Compares every hub's head with the log. */
  sweep(): Promise<void>
  /** Looks nothing up any more. */
  close(): Promise<void>
  readonly userCount: number
}

interface Hub {
  readonly userId: Uint8Array
  readonly members: Set<Member>
  /** Every member knows of events up to here, or reads the log for them. Undefined until the database was asked. */
  head: number | undefined
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

export function createHubs(parts: HubsParts): Hubs {
  const { bus, readHeads, onFailure, tracing, metrics, now, monotonicMs } = parts
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

  const raiseHead = (hub: Hub, head: number): void => {
    hub.head = Math.max(hub.head ?? 0, head)
  }

  const learnHead = (hub: Hub, head: number): void => {
    if (hub.head !== undefined && head <= hub.head) return
    raiseHead(hub, head)
    forEachMember(hub, ({ delivery }) => delivery.noteHead(head))
  }

  const headLookups = createUserLookups<Hub>({ ...parts, ask: readHeads, take: learnHead })
  const logLookups = createUserLookups<Hub>({
    ...parts,
    ask: parts.readLogSeqs,
    take: (hub, seq) => forEachMember(hub, (one) => one.onControl({ type: 'device_log', userId: hub.userId, seq })),
  })

  const onEvents = (hub: Hub, announcement: EventsAnnouncement): void => {
    const { from, to, items, arrivedAtMs, trace } = announcement
    const verdict = judgeAnnounced(hub.head, announcement)
    if (verdict === 'read') return headLookups.add(hub)
    if (verdict === 'known' || items === undefined) return
    raiseHead(hub, to)
    // Two nodes' clocks: what they differ by is in it, and never makes it negative.
    if (offer(hub, createLiveBatch(from, to, items), { parent: trace })) {
      metrics.observeEndToEnd('remote', Math.max(0, now() - arrivedAtMs))
    }
  }

  const hear = (hub: Hub, announcement: Announcement): void => {
    switch (announcement.type) {
      case 'events':
        return onEvents(hub, announcement)
      case 'device_log':
        return logLookups.add(hub)
      case 'presence':
      case 'storage_notice':
        return forEachMember(hub, (member) => member.onControl(announcement))
      default:
        return forEachMember(hub, (member) => member.onHint(announcement))
    }
  }

  const openHub = (userKey: string, userId: Uint8Array, context: { readonly deviceHash: string }): Hub => {
    const hub: Hub = {
      userId,
      members: new Set(),
      head: undefined,
      subscription: bus
        .subscribe(userId, (announcement) => hear(hub, announcement), context)
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
        raiseHead(hub, head)
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
        raiseHead(hub, to)
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
      if (hub !== undefined) attempt(() => forEachMember(hub, (member) => member.onControl(announcement)))
      void bus.publish(announcement)
    },
    noteHead: (userId, head) => {
      const hub = hubByUser.get(toHex(userId))
      if (hub !== undefined) attempt(() => learnHead(hub, head))
    },
    forgetHeads: () => {
      for (const hub of hubByUser.values()) hub.head = undefined
    },
    sweep: () => {
      // One that runs may have read its heads before what is to be found was stored: another follows it.
      isSweepDue = true
      sweeping ??= sweepWhileDue()
      return sweeping
    },
    close: async () => void (await Promise.all([headLookups.close(), logLookups.close()])),
    get userCount() {
      return hubByUser.size
    },
  }
}
