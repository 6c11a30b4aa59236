// Leases in Redis: a key a device that holds the session's number and expires by Redis's own clock. Comparing and
// writing are one script, so a late renewal of an older session changes nothing. Redis may be away at any time, and
// anyone who can write there can fake who is online, so a key may hold anything.

import { createRedisLink, DEFAULT_REDIS_TIMINGS, type RedisClient } from '../bus/redis-link.ts'
import type { DeviceKey } from '../db/queries/devices.ts'
import type { Log } from '../telemetry/log.ts'
import { type Lease, type Leases, leaseKey } from './leases.ts'

export interface RedisLeasesParts {
  readonly url: string
  readonly ttlMs: number
  readonly log: Log
  /** Redis is back, and may have forgotten everything. */
  onUp(): void
}

const KEY_PREFIX = 'valise:presence:'
/** Keys of one command: Redis serves nobody else meanwhile. */
const KEYS_PER_COMMAND = 256

const HOLD = `
for i, key in ipairs(KEYS) do
  local held = redis.pcall('GET', key)
  held = type(held) == 'string' and string.len(held) <= 15 and string.match(held, '^[1-9]%d*$') and tonumber(held)
  if not held or held <= tonumber(ARGV[i + 1]) then
    redis.call('SET', key, ARGV[i + 1], 'PX', ARGV[1])
  end
end`

const RELEASE = `
if redis.pcall('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0`

const SESSION_NUMBER = /^[1-9]\d{0,14}$/
const toSessionNumber = (value: string | null): number | undefined =>
  value !== null && SESSION_NUMBER.test(value) ? Number(value) : undefined

const nameOf = (device: DeviceKey): string => KEY_PREFIX + leaseKey(device)

/** Resolves when Redis has answered or turned out to be away. */
export async function openRedisLeases({ url, ttlMs, log, onUp }: RedisLeasesParts): Promise<Leases> {
  const link = createRedisLink({
    url,
    name: 'valise-presence',
    timings: DEFAULT_REDIS_TIMINGS,
    log,
    onUp,
    onDown: () => {},
    onError: () => {},
  })
  await link.firstAttempt

  /** Undefined while Redis is away, and when it fails meanwhile: then the connection is given up. */
  const ask = async <Answer>(work: (client: RedisClient) => Promise<Answer>): Promise<Answer | undefined> => {
    const { client } = link
    if (client === undefined) return undefined
    try {
      return await work(client)
    } catch (error) {
      link.fail(client, error)
      return undefined
    }
  }

  const holdSome = (leases: readonly Lease[]): Promise<unknown> =>
    ask((client) =>
      client.eval(HOLD, {
        keys: leases.map(nameOf),
        arguments: [String(ttlMs), ...leases.map((lease) => String(lease.sessionNumber))],
      }),
    )

  return {
    hold: async (leases) => {
      for (const some of inPortions(leases)) await holdSome(some)
    },
    release: async (lease) => {
      const ended = await ask((client) =>
        client.eval(RELEASE, { keys: [nameOf(lease)], arguments: [String(lease.sessionNumber)] }),
      )
      return Number(ended ?? 0) === 1
    },
    read: async (devices) => {
      const numbers: (number | undefined)[] = []
      for (const some of inPortions(devices)) {
        const held = await ask((client) => client.mGet(some.map(nameOf)))
        if (held === undefined) return undefined
        for (const value of held) numbers.push(toSessionNumber(value))
      }
      return numbers
    },
    close: () => link.close(async () => {}),
  }
}

function* inPortions<Item>(items: readonly Item[]): Generator<readonly Item[]> {
  for (let at = 0; at < items.length; at += KEYS_PER_COMMAND) yield items.slice(at, at + KEYS_PER_COMMAND)
}
