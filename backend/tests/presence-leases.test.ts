// The contract of the leases, kept in a process and over a real Redis alike (PRE-1).

import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Lease, type Leases, leaseKey } from '../src/presence/leases.ts'
import { createLeaseBoard, createLocalLeases } from '../src/presence/local-leases.ts'
import { openRedisLeases } from '../src/presence/redis-leases.ts'
import { createLog } from '../src/telemetry/log.ts'
import { waitFor } from './support/open-database.ts'
import { startRedis, type TestRedis } from './support/redis.ts'

const TTL_MS = 400
const log = createLog({ level: 'silent' })
let redis: TestRedis

const implementations: Record<string, () => Promise<readonly [Leases, Leases]>> = {
  'in the process': async () => {
    const board = createLeaseBoard()
    const open = (): Leases => createLocalLeases({ ttlMs: TTL_MS, now: () => performance.now(), board })
    return [open(), open()]
  },
  'over Redis': async () => {
    const open = (): Promise<Leases> => openRedisLeases({ url: redis.url, ttlMs: TTL_MS, log, onUp: () => {} })
    return [await open(), await open()]
  },
}

let nextDevice = 1
const lease = (sessionNumber: number, deviceId = new Uint8Array(16).fill(nextDevice)): Lease => ({
  userId: new Uint8Array(32).fill(7),
  deviceId,
  sessionNumber,
})

beforeAll(async () => {
  redis = await startRedis()
})
afterAll(() => redis?.close())

describe.each(Object.entries(implementations))('leases %s', (_, open) => {
  let here: Leases
  let there: Leases
  beforeAll(async () => {
    ;[here, there] = await open()
  })
  afterAll(async () => {
    await here?.close()
    await there?.close()
  })

  const readBy = async (leases: Leases, of: Lease): Promise<number | undefined> => (await leases.read([of]))?.[0]

  it('PRE-1: a lease is seen by every node, and by none after its release', async () => {
    nextDevice++
    const held = lease(1)
    expect(await readBy(there, held)).toBeUndefined()
    await here.hold([held])
    expect(await readBy(there, held)).toBe(1)
    expect(await here.release(held)).toBe(true)
    expect(await readBy(there, held)).toBeUndefined()
    expect(await here.release(held)).toBe(false)
  })

  it('PRE-1: an older session neither takes nor ends the lease of a newer', async () => {
    nextDevice++
    const [older, newer] = [lease(9), lease(10)]
    await here.hold([older])
    await there.hold([newer])
    await here.hold([older])
    expect(await readBy(here, newer)).toBe(10)
    expect(await here.release(older)).toBe(false)
    expect(await readBy(here, newer)).toBe(10)
    expect(await there.release(newer)).toBe(true)
  })

  it('PRE-1: a lease that nobody renews ends by itself, one that is renewed does not', async () => {
    nextDevice++
    const left = lease(1)
    nextDevice++
    const renewed = lease(1)
    await here.hold([left, renewed])
    const renewing = async () => {
      await there.hold([renewed])
      return here.read([left, renewed])
    }
    const seen = await waitFor('the lease to end', renewing, (numbers) => numbers?.[0] === undefined)
    expect(seen).toEqual([undefined, 1])
  })

  it('PRE-1: many leases are read in the order they were asked for', async () => {
    const many = Array.from({ length: 700 }, (_unused, i) =>
      lease(i + 1, new Uint8Array(new Uint32Array([i, 5, 5, 5]).buffer)),
    )
    await here.hold(many.filter((_unused, i) => i % 2 === 0))
    expect(await there.read(many)).toEqual(many.map((_unused, i) => (i % 2 === 0 ? i + 1 : undefined)))
  })
})

describe('leases in a Redis that others write to', () => {
  it.each(['', 'nonsense', '-1', 'nan', '1e400', '9'.repeat(400)])(
    'PRE-1: a key that holds %o is nobody’s lease, and the session takes it',
    async (value) => {
      nextDevice++
      const held = lease(3)
      const leases = await openRedisLeases({ url: redis.url, ttlMs: 60_000, log, onUp: () => {} })
      const key = `valise:presence:${leaseKey(held)}`
      await redis.send('SET', key, value)
      expect(await leases.read([held])).toEqual([undefined])
      await leases.hold([held])
      expect(await leases.read([held])).toEqual([3])
      await redis.send('SET', key, value)
      expect(await leases.release(held)).toBe(false)
      await redis.send('DEL', key)
      await redis.send('RPUSH', key, value)
      expect(await leases.read([held])).toEqual([undefined])
      expect(await leases.release(held)).toBe(false)
      await leases.hold([held])
      expect(await leases.read([held])).toEqual([3])
      await leases.close()
    },
  )
})

describe('leases without Redis for a while', () => {
  it('PRE-1: nothing is known while Redis is away, and nothing fails', async () => {
    const own = await startRedis()
    let upCount = 0
    const leases = await openRedisLeases({ url: own.url, ttlMs: 60_000, log, onUp: () => upCount++ })
    await leases.hold([lease(1)])
    await own.kill()
    await waitFor(
      'Redis to be missed',
      () => leases.read([lease(1)]),
      (numbers) => numbers === undefined,
    )
    await leases.hold([lease(1)])
    expect(await leases.release(lease(1))).toBe(false)
    await own.restart()
    await waitFor(
      'Redis to be back',
      async () => upCount,
      (count) => count === 2,
    )
    await leases.hold([lease(1)])
    expect(await leases.read([lease(1)])).toEqual([1])
    await leases.close()
    await own.close()
  })
})
