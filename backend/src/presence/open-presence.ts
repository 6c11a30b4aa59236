// Presence as a node runs it: leases in Redis or in this process, renewed and compared several times in the time for
// which a device may be shown online after its node died.

import type { Log } from '../telemetry/log.ts'
import type { Leases } from './leases.ts'
import { createLocalLeases } from './local-leases.ts'
import { createPresence, type Presence, type PresenceParts } from './presence.ts'
import { openRedisLeases } from './redis-leases.ts'

export interface OpenPresenceParts extends Omit<PresenceParts, 'leases' | 'staleAfterMs' | 'onFailure'> {
  readonly redisUrl: string | undefined
  readonly leaseMs: number
  readonly log: Log
}

export interface OpenedPresence extends Presence {
  close(): Promise<void>
}

/** A lease lasts four parts of six; with one until it is looked at, and one for all that is late, it is six. */
const PARTS_OF_LEASE = 6
const PARTS_OF_TTL = 4

export async function openPresence({ redisUrl, leaseMs, log, ...parts }: OpenPresenceParts): Promise<OpenedPresence> {
  const intervalMs = Math.floor(leaseMs / PARTS_OF_LEASE)
  const ttlMs = PARTS_OF_TTL * intervalMs
  const onFailure = (err: unknown): void => log.error({ event: 'presence.update.fail', err }, 'Presence failed')
  let presence: Presence | undefined
  let comparing: Promise<void> | undefined
  const compare = (): void => {
    comparing ??= presence
      ?.compare()
      .catch(onFailure)
      .finally(() => {
        comparing = undefined
      })
  }
  const leases: Leases =
    redisUrl === undefined
      ? createLocalLeases({ ttlMs, now: parts.now })
      : await openRedisLeases({ url: redisUrl, ttlMs, log, onUp: compare })
  const opened = createPresence({ ...parts, leases, staleAfterMs: leaseMs - intervalMs, onFailure })
  presence = opened
  const timer = setInterval(compare, intervalMs).unref()
  return {
    ...opened,
    close: async () => {
      clearInterval(timer)
      await comparing
      await leases.close()
    },
  }
}
