// Nodes without sockets: real hubs and deliveries over a real Redis bus, and a log in memory that all of them share, as
// nodes share a database. Ten thousand devices come and go here in seconds.

import { toHex } from '@valise/protocol'
import type { Bus } from '../../src/bus/bus.ts'
import { openRedisBus } from '../../src/bus/redis-bus.ts'
import type { WholeItem } from '../../src/db/queries/events.ts'
import { createDelivery, type Page } from '../../src/log/delivery.ts'
import { createHubs, type Hubs } from '../../src/log/hub.ts'
import type { StoredBatch } from '../../src/log/intake.ts'
import { createLog, type LogLevel } from '../../src/telemetry/log.ts'
import { createMetrics, type Metrics } from '../../src/telemetry/metrics.ts'
import { testBusKeys } from '../support/bus-keys.ts'

export const userOf = (index: number): Uint8Array => {
  const userId = new Uint8Array(32)
  new DataView(userId.buffer).setUint32(0, index + 1)
  return userId
}

const WRITER_ID = new Uint8Array(16).fill(1)
const READER_ID = new Uint8Array(16).fill(2)
const EMPTY_ID = new Uint8Array(16)
const CHAIN = new Uint8Array(32)
const WIRE = new Uint8Array(64)

export interface MemoryLog {
  head(user: number): number
  /** Stores one event, and has the node announce it. */
  append(user: number, hubs: Hubs): void
  readPage(user: number, after: number, maxEvents: number): Page
  readHeads(userIds: readonly Uint8Array[]): Map<string, number>
}

export function createMemoryLog(): MemoryLog {
  const headByUser = new Map<string, number>()
  const itemAt = (userSeq: number): WholeItem => ({
    userSeq,
    streamSeq: userSeq,
    storedAtMs: 1,
    deviceId: WRITER_ID,
    deviceSeq: userSeq,
    wire: WIRE,
  })
  const headOf = (userKey: string): number => headByUser.get(userKey) ?? 0
  return {
    head: (user) => headOf(toHex(userOf(user))),
    append: (user, hubs) => {
      const userId = userOf(user)
      const userKey = toHex(userId)
      const userSeq = headOf(userKey) + 1
      headByUser.set(userKey, userSeq)
      const event = {
        streamId: EMPTY_ID,
        eventId: EMPTY_ID,
        epoch: 1,
        logSeq: 0,
        logHead: CHAIN,
        ttlS: 0,
        checkpoint: undefined,
        chain: CHAIN,
        wire: WIRE,
        deviceSeq: userSeq,
        chainPrev: CHAIN,
      }
      const batch: StoredBatch = {
        userKey,
        userId,
        events: [{ event, deviceId: WRITER_ID, userSeq, streamSeq: userSeq, storedAtMs: 1 }],
        arrivedAtMs: 0,
        traces: [],
      }
      hubs.announceStored(batch)
    },
    readPage: (user, after, maxEvents) => {
      const through = Math.min(headOf(toHex(userOf(user))), after + maxEvents)
      return {
        items: Array.from({ length: through - after }, (_, i) => itemAt(after + i + 1)),
        through,
        prunedThrough: 0,
        atMs: 1,
        head: headOf(toHex(userOf(user))),
      }
    },
    readHeads: (userIds) => new Map(userIds.map((userId) => [toHex(userId), headOf(toHex(userId))])),
  }
}

export interface HubNode {
  readonly bus: Bus
  readonly hubs: Hubs
  readonly metrics: Metrics
  readonly lines: readonly { readonly event: string; readonly device?: string }[]
  readonly failures: readonly unknown[]
  /** Leaves Redis. */
  close(): Promise<void>
}

const TIMINGS = { heartbeatMs: 500, connectTimeoutMs: 1000, retryDelayMs: () => 20 }

/** Heads are compared when the bus tells of a gap, and never by the clock. */
export async function openHubNode(url: string, memoryLog: MemoryLog, level: LogLevel = 'debug'): Promise<HubNode> {
  const metrics = createMetrics()
  const lines: HubNode['lines'][number][] = []
  const failures: unknown[] = []
  const log = createLog({ level, stream: { write: (line) => lines.push(JSON.parse(line)) } })
  const bus = await openRedisBus({ url, keys: testBusKeys, log, metrics, timings: TIMINGS })
  const hubs = createHubs({
    bus,
    readHeads: async (userIds) => memoryLog.readHeads(userIds),
    readLogSeqs: async () => new Map(),
    onFailure: (error) => failures.push(error),
    metrics: metrics.delivery,
    now: Date.now,
    monotonicMs: () => performance.now(),
  })
  bus.onGap(() => void hubs.sweep())
  return { bus, hubs, metrics, lines, failures, close: bus.close }
}

export interface HubDevice {
  readonly user: number
  /** Events received: 1 … this, each once and in order, or the reason why not. */
  readonly received: number | string
  readonly isBroken: boolean
  detach(): Promise<void>
}

/** A device of the user, after the whole of his log. A broken one throws at whatever it is told live. */
export async function attachDevice(
  node: HubNode,
  memoryLog: MemoryLog,
  { user, isBroken, deviceHash }: { user: number; isBroken: boolean; deviceHash: string },
): Promise<HubDevice> {
  let received = 0
  let fault: string | undefined
  const receive = (items: readonly WholeItem[]): void => {
    for (const { userSeq } of items) {
      if (userSeq !== received + 1) fault ??= `event ${userSeq} after ${received}`
      received = userSeq
    }
  }
  const delivery = createDelivery({
    deviceId: READER_ID,
    readPage: async (after, maxEvents) => memoryLog.readPage(user, after, maxEvents),
    isEmptied: async () => false,
    allowance: () => 100,
    send: receive,
    sendEncoded: ({ items }) => {
      if (isBroken) throw new Error('a broken connection')
      receive(items)
    },
    sendCaughtUp: () => {},
    sendPruned: () => {},
    onBehind: () => {},
    onCatchUp: () => {},
    onFailure: (error) => {
      fault ??= String(error)
    },
  })
  const onControl = (): void => {
    if (isBroken) throw new Error('a broken connection')
  }
  const detach = await node.hubs.attach(userOf(user), { delivery, onControl, onHint: onControl }, { deviceHash })
  const head = memoryLog.head(user)
  node.hubs.noteHead(userOf(user), head)
  delivery.start(0, head)
  return {
    user,
    isBroken,
    get received() {
      return fault ?? received
    },
    detach: () => {
      delivery.close()
      return detach()
    },
  }
}
