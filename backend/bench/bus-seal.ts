// `npm run bench -- bus-seal [--messages 200000]`: CPU time of sealing one message for the bus and of opening it again,
// for a control word, an announcement of one event and one as large as they come.

import { createSecretKey, randomBytes } from 'node:crypto'
import { parseArgs } from 'node:util'
import { type BusMessage, encodeBusMessage, parseBusMessage } from '../src/bus/announcement-codec.ts'
import { type BusKeys, openFromBus, sealForBus } from '../src/bus/bus-seal.ts'
import { channelOf } from '../src/bus/redis-bus.ts'

const { values: flags } = parseArgs({ options: { messages: { type: 'string', default: '200000' } } })
const ROUNDS = 8

function measureCpu(count: number, turn: () => unknown): number {
  let least = Number.POSITIVE_INFINITY
  for (let round = 0; round < ROUNDS; round++) {
    const before = process.cpuUsage()
    for (let i = 0; i < count; i++) turn()
    const { user, system } = process.cpuUsage(before)
    least = Math.min(least, (user + system) / count)
  }
  return least
}

const key = createSecretKey(randomBytes(32))
const keys: BusKeys = { current: () => ({ number: 1, key }), find: () => key, noteUnknown: () => {} }
const userId = new Uint8Array(randomBytes(32))
const deviceId = new Uint8Array(randomBytes(16))
const origin = new Uint8Array(randomBytes(16))
const channel = channelOf(userId)
const events = (wireBytes: number): BusMessage => ({
  type: 'events',
  userId,
  from: 7,
  to: 7,
  arrivedAtMs: Date.now(),
  items: [
    {
      userSeq: 7,
      streamSeq: 7,
      storedAtMs: Date.now(),
      deviceId,
      deviceSeq: 7,
      wire: new Uint8Array(randomBytes(wireBytes)),
    },
  ],
})
const cases: readonly (readonly [string, BusMessage, number])[] = [
  ['a control word', { type: 'session_superseded', userId, deviceId, sessionNumber: 9 }, 1],
  ['one event of 512 bytes', events(512), 1],
  ['the largest, 64 KiB', events(65_000), 16],
]

console.table(
  cases.map(([name, message, share]) => {
    const count = Math.ceil(Number(flags.messages) / ROUNDS / share)
    const plain = encodeBusMessage(message, origin)
    const sealed = sealForBus(keys, channel, plain)
    const forged = Buffer.from(sealed)
    forged[forged.length - 1] = (forged[forged.length - 1] ?? 0) ^ 1
    const micros = (turn: () => unknown) => Number(measureCpu(count, turn).toFixed(2))
    return {
      message: name,
      bytes: sealed.length,
      'encode µs': micros(() => encodeBusMessage(message, origin)),
      'seal µs': micros(() => sealForBus(keys, channel, plain)),
      'open µs': micros(() => openFromBus(keys, channel, sealed)),
      'refuse µs': micros(() => openFromBus(keys, channel, forged)),
      'parse µs': micros(() => parseBusMessage(plain, userId)),
    }
  }),
)
