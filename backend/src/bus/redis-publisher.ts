// Announcements on their way out. Bounded: what does not fit, or comes while Redis is away, is dropped and counted. A
// node that dropped any tells every listening node, as soon as Redis takes it, to look into the log.

import type { Log } from '../telemetry/log.ts'
import type { BusMetrics } from '../telemetry/metrics.ts'
import { createRedisLink, type RedisClient, type RedisTimings } from './redis-link.ts'

/** Some 120 of the largest announcements waiting for Redis to read them. */
const MAX_BUFFERED_BYTES = 8 * 1024 * 1024
/** Hints sent before waiting for their answers, so that 100 000 channels do not fill the memory at once. */
const HINTS_AT_ONCE = 256

export interface RedisPublisherParts {
  readonly url: string
  readonly name: string
  readonly timings: RedisTimings
  readonly log: Log
  readonly metrics: BusMetrics
  /** Matches every channel somebody may listen on. */
  readonly channelPattern: string
  /** What tells a node that it may have missed announcements, by channel; a new one for each occasion. */
  createHint(): (channel: string) => Buffer
  /** `isUp` has changed. */
  onChange(): void
}

export interface RedisPublisher {
  /** Resolves when the first attempt to connect has succeeded or failed. */
  readonly firstAttempt: Promise<void>
  readonly isUp: boolean
  /** Resolves when Redis has taken it or it was dropped. Never rejects. */
  publish(channel: string, bytes: Buffer): Promise<void>
  /** Lets what is on its way arrive, then quits. */
  close(): Promise<void>
}

export function createRedisPublisher(parts: RedisPublisherParts): RedisPublisher {
  const { log, metrics } = parts
  let bufferedBytes = 0
  let droppedCount = 0
  let isHinting = false

  const drop = (): void => {
    metrics.countAnnouncementDropped()
    if (droppedCount++ > 0) return
    log.warn(
      { event: 'bus.announcement.dropped' },
      'Announcements are dropped; nodes will be told to look into the log',
    )
  }

  /** For each listener one hint suffices, whatever was dropped: the log holds it all. */
  const hint = async (client: RedisClient): Promise<void> => {
    if (droppedCount === 0 || isHinting || link.client !== client) return
    isHinting = true
    const covered = droppedCount
    try {
      const hintFor = parts.createHint()
      const channels = await client.pubSubChannels(parts.channelPattern)
      for (let at = 0; at < channels.length; at += HINTS_AT_ONCE) {
        await Promise.all(
          channels.slice(at, at + HINTS_AT_ONCE).map((channel) => client.publish(channel, hintFor(channel))),
        )
      }
      droppedCount -= covered
      log.info(
        { event: 'bus.announcement.repaired', droppedCount: covered, channels: channels.length },
        'Nodes were told that announcements are missing',
      )
    } catch (error) {
      link.fail(client, error)
    } finally {
      isHinting = false
    }
    // Something may have been dropped while the hints went out.
    if (bufferedBytes === 0) void hint(client)
  }

  const link = createRedisLink({
    url: parts.url,
    name: parts.name,
    timings: parts.timings,
    log,
    onUp: (client) => {
      parts.onChange()
      void hint(client)
    },
    onDown: parts.onChange,
    onError: () => {},
  })

  return {
    firstAttempt: link.firstAttempt,
    get isUp() {
      return link.client !== undefined
    },
    publish: async (channel, bytes) => {
      const { client } = link
      if (client === undefined || bufferedBytes + bytes.length > MAX_BUFFERED_BYTES) return drop()
      bufferedBytes += bytes.length
      const startedAtMs = performance.now()
      try {
        await client.publish(channel, bytes)
        metrics.countAnnouncement('out', 'ok')
        metrics.observePublish('ok', performance.now() - startedAtMs)
      } catch (error) {
        metrics.countAnnouncement('out', 'failed')
        metrics.observePublish('failed', performance.now() - startedAtMs)
        // It may have arrived or not: for the listeners that is the same as dropped.
        drop()
        link.fail(client, error)
      } finally {
        bufferedBytes -= bytes.length
      }
      if (bufferedBytes === 0) void hint(client)
    },
    close: () => link.close(async () => {}),
  }
}
