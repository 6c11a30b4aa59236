// Redis: in reach, new enough, carries an announcement from one connection to another, and its clock.

import { randomBytes } from 'node:crypto'
import { createRedisClient, DEFAULT_REDIS_TIMINGS, type RedisClient } from '../bus/redis-link.ts'
import type { Config } from '../config.ts'
import { checkClock } from './check-clock.ts'
import { codeOf, type Finding, findingsOf, messageOf } from './finding.ts'

const findings = findingsOf('redis')
const { ok, wrong } = findings
const OLDEST_MAJOR = 6
const PUBLISH_DEADLINE_MS = 3000

export async function checkRedis({ redisUrl }: Config): Promise<Finding[]> {
  if (redisUrl === undefined) {
    return [ok('none is configured: this server runs as a single node, with a bus inside the process')]
  }
  const open: RedisClient[] = []
  const connect = async (): Promise<RedisClient> => {
    const client = createRedisClient(redisUrl, 'valise-doctor', DEFAULT_REDIS_TIMINGS)
    open.push(client)
    // Told by the promise of whatever fails.
    client.on('error', () => {})
    await client.connect()
    return client
  }
  try {
    const client = await connect()
    return [...(await checkServer(client)), await checkChannel(client, await connect())]
  } catch (error) {
    return [describeFailure(error)]
  } finally {
    for (const client of open) client.destroy()
  }
}

async function checkServer(client: RedisClient): Promise<Finding[]> {
  const info = String(await client.sendCommand(['INFO', 'server']))
  const version = /^redis_version:([0-9.]+)/m.exec(info)?.[1] ?? '0'
  const beforeMs = Date.now()
  const time = await client.sendCommand(['TIME'])
  const [seconds, microseconds] = Array.isArray(time) ? time.map(Number) : []
  const theirsMs = Math.floor((seconds ?? 0) * 1000 + (microseconds ?? 0) / 1000)
  return [
    Number(version.split('.')[0]) < OLDEST_MAJOR
      ? wrong(`Redis ${version} is too old`, `install Redis ${OLDEST_MAJOR} or newer`)
      : ok(`Redis ${version} answers`),
    checkClock(findings, 'Redis', { theirsMs, beforeMs, afterMs: Date.now() }),
  ]
}

async function checkChannel(publisher: RedisClient, subscriber: RedisClient): Promise<Finding> {
  const channel = `valise:doctor:${randomBytes(8).toString('hex')}`
  let deadline: NodeJS.Timeout | undefined
  const late = new Promise<false>((resolve) => {
    deadline = setTimeout(() => resolve(false), PUBLISH_DEADLINE_MS)
  })
  try {
    let hear: (isHeard: true) => void = () => {}
    const heard = new Promise<true>((resolve) => {
      hear = resolve
    })
    await subscriber.subscribe(channel, () => hear(true))
    await publisher.publish(channel, 'hello')
    return (await Promise.race([heard, late]))
      ? ok('an announcement travels through it')
      : wrong(
          `an announcement is not heard within ${PUBLISH_DEADLINE_MS / 1000} s`,
          'name a Redis itself, not a proxy that carries no publish and subscribe',
        )
  } catch (error) {
    return wrong(
      `announcements are refused: ${messageOf(error)}`,
      'allow this user publish, subscribe and the channels valise:* (ACL SETUSER)',
    )
  } finally {
    clearTimeout(deadline)
  }
}

function describeFailure(error: unknown): Finding {
  const remedy = 'see that Redis runs there, and that host, port and password of REDIS_URL are right'
  const message = messageOf(error)
  if (/NOAUTH|WRONGPASS/.test(message)) {
    return wrong('Redis refuses the password', 'set the right user and password in REDIS_URL')
  }
  if (codeOf(error) === 'ECONNREFUSED') return wrong('nothing listens at the address of REDIS_URL', remedy)
  return wrong(`Redis cannot be reached: ${message}`, remedy)
}
