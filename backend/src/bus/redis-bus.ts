// The bus over Redis: one subscriber connection and one publisher connection a node, one channel a user. Redis may be
// away at any time, also at the start: then nothing is heard, `isHealthy` says so, and `onGap` is called when every
// wanted channel is subscribed again. Channels are channel-table.ts, connections redis-link.ts.

import { randomBytes } from 'node:crypto'
import { equalBytes, toHex } from '@valise/protocol'
import type { Log } from '../telemetry/log.ts'
import type { BusMetrics, RedisMetrics } from '../telemetry/metrics.ts'
import { encodeBusMessage, NODE_ID_BYTES, parseBusMessage } from './announcement-codec.ts'
import type { Bus } from './bus.ts'
import { type BusKeys, openFromBus, sealForBus } from './bus-seal.ts'
import { createChannelTable } from './channel-table.ts'
import { createRedisLink, DEFAULT_REDIS_TIMINGS, type RedisClient, type RedisTimings } from './redis-link.ts'
import { createRedisPublisher } from './redis-publisher.ts'
import { createDeliver, createGapListeners, type Subscriber } from './subscribers.ts'

export interface RedisBusParts {
  readonly url: string
  readonly keys: BusKeys
  readonly log: Log
  readonly metrics: { readonly bus: BusMetrics; readonly redis: RedisMetrics }
  readonly timings?: Partial<RedisTimings>
}

const CHANNEL_PREFIX = 'valise:user:'
/** Hints of so many nodes are told apart while they arrive mixed; beyond it the log is looked into once more. */
const MAX_KNOWN_GAPS = 64

/** The channel of a user: public, as the user id is. */
export const channelOf = (userId: Uint8Array): string =>
  CHANNEL_PREFIX + Buffer.from(userId.buffer, userId.byteOffset, userId.byteLength).toString('base64url')

/** Resolves when Redis has answered or turned out to be away. Throws only for a URL that cannot be one of Redis. */
export async function openRedisBus({ url, keys, log, metrics, ...options }: RedisBusParts): Promise<Bus> {
  const timings = { ...DEFAULT_REDIS_TIMINGS, ...options.timings }
  const origin = randomBytes(NODE_ID_BYTES)
  const node = toHex(origin.subarray(0, 4))
  const gapListeners = createGapListeners(log)
  const deliver = createDeliver({ log, metrics: metrics.bus, onHandlerError: metrics.redis.countSubscriberError })
  const knownGaps: string[] = []
  let isHearing = false
  let isClosing = false
  let closing: Promise<void> | undefined

  const isHealthy = (): boolean => isHearing && publisher.isUp && !isClosing
  const noteHealth = (): void => metrics.bus.setBusHealthy(isHealthy())

  const table = createChannelTable({
    onActive: metrics.redis.setSubscribersActive,
    onLeft: (device) => log.debug({ event: 'bus.channel.left', device }, 'The last subscriber of a user has left'),
    onFailure: ({ operation, deviceHashes, error }) => {
      const facts = { devices: deviceHashes, err: error }
      if (operation === 'unsubscribe') {
        metrics.redis.countSubscriberCleanupError()
        log.warn({ event: 'bus.channel.unsubscribe_failed', ...facts }, 'Redis refused to unsubscribe')
      } else {
        metrics.redis.countSubscriberError()
        log.warn({ event: 'bus.channel.subscribe_failed', ...facts }, 'Redis refused to subscribe')
      }
      const { client } = subscriber
      if (client !== undefined) subscriber.fail(client, error)
    },
  })

  const hearGap = (gapId: Uint8Array): void => {
    const key = toHex(gapId)
    if (knownGaps.includes(key)) return
    knownGaps.push(key)
    if (knownGaps.length > MAX_KNOWN_GAPS) knownGaps.shift()
    gapListeners.call()
  }

  const hear = (bytes: unknown, name: string): void => {
    const channel = table.find(name)
    if (channel === undefined || channel.subscribers.size === 0) return
    const opened = bytes instanceof Uint8Array ? openFromBus(keys, name, bytes) : undefined
    if (opened === undefined) {
      metrics.bus.countAnnouncement('in', 'forged')
      log.warn(
        { event: 'bus.announcement.forged' },
        'Somebody without the node secret writes to the channels of Valise in Redis; the message was ignored',
      )
      return
    }
    const parsed = parseBusMessage(opened, channel.userId)
    if (parsed === undefined) {
      metrics.bus.countAnnouncement('in', 'malformed')
      log.warn(
        { event: 'bus.announcement.malformed' },
        'A message of another node could not be read; do all nodes run the same version?',
      )
    } else if (equalBytes(parsed.origin, origin)) metrics.bus.countAnnouncement('in', 'own')
    else if (parsed.message.type === 'missed') hearGap(parsed.message.gapId)
    else deliver(channel.subscribers, parsed.message)
  }

  /** Subscribes to all that is wanted, and only then says that the bus is back. */
  const restore = async (client: RedisClient): Promise<void> => {
    const listener = (bytes: Buffer, name: Buffer): void => hear(bytes, name.toString())
    await table.connect({
      subscribe: (names) => client.subscribe([...names], listener, true),
      unsubscribe: (names) => client.unsubscribe([...names]),
    })
    if (subscriber.client !== client) return
    isHearing = true
    noteHealth()
    gapListeners.call()
  }

  const publisher = createRedisPublisher({
    url,
    name: `valise-publisher-${node}`,
    timings,
    log,
    metrics: metrics.bus,
    channelPattern: `${CHANNEL_PREFIX}*`,
    createHint: () => {
      const message = encodeBusMessage({ type: 'missed', gapId: randomBytes(16) }, origin)
      return (channel) => sealForBus(keys, channel, message)
    },
    onChange: noteHealth,
  })
  const subscriber = createRedisLink({
    url,
    name: `valise-subscriber-${node}`,
    timings,
    log,
    onUp: (client) => void restore(client),
    onDown: () => {
      isHearing = false
      table.disconnect()
      noteHealth()
    },
    onError: metrics.redis.countSubscriberError,
  })
  await Promise.all([publisher.firstAttempt, subscriber.firstAttempt])

  const end = async (): Promise<void> => {
    isClosing = true
    gapListeners.clear()
    noteHealth()
    try {
      // Always every unsubscribe, confirmed, before the quit.
      await subscriber.close(() => table.clear())
    } catch (err) {
      metrics.redis.countSubscriberCleanupError()
      log.warn({ event: 'bus.subscriber.end_failed', err }, 'The subscriber did not end in order')
    }
    await table.clear()
    try {
      await publisher.close()
    } catch (err) {
      log.warn({ event: 'bus.publisher.end_failed', err }, 'The publisher did not end in order')
    }
  }

  return {
    publish: async (announcement) => {
      if (isClosing) return metrics.bus.countAnnouncementDropped()
      const channel = channelOf(announcement.userId)
      await publisher.publish(channel, sealForBus(keys, channel, encodeBusMessage(announcement, origin)))
    },
    subscribe: async (userId, handler, context) => {
      const entry: Subscriber = { handler, context }
      const name = channelOf(userId)
      if (!isClosing) await table.add(name, userId, entry)
      return { close: () => table.remove(name, entry) }
    },
    onGap: gapListeners.add,
    get isHealthy() {
      return isHealthy()
    },
    close: () => {
      closing ??= end()
      return closing
    },
  }
}
