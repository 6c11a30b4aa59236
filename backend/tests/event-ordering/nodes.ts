// Several nodes on one PostgreSQL and one Redis behave as one, with announcements lost, doubled, held back and swapped:
// the bus is a hint, and a bad hint costs latency, never an event (DESIGN 5.6).

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createAccount, type TestAccount } from '../support/account.ts'
import { createFaultBus, type FaultBus, type FaultPlan, passAll, randomPlan } from '../support/fault-bus.ts'
import { waitFor } from '../support/open-database.ts'
import type { RawSession } from '../support/raw-device.ts'
import { createSeededRandom } from '../support/seeded-random.ts'
import { startTestServer, type TestServer, testRedisUrl } from '../support/server.ts'
import { expectSoundLog, logOf, oneTo } from './observed-log.ts'
import { follow, haveEvents, haveReceipts, publishInFrames, wiresOf } from './publishing.ts'

/** Heads are compared so rarely that only announcements bring word. */
const NEVER_POLLED = { VALISE_HEAD_POLL_MS: '600000' }

export function describeNodes(): void {
  describe('order across nodes on one database', () => {
    let first: TestServer
    let second: TestServer
    let bus: FaultBus
    let polled: TestServer
    let polledBus: FaultBus

    beforeAll(async () => {
      const redisUrl = testRedisUrl()
      first = await startTestServer({ database: 'postgres', redisUrl, flags: NEVER_POLLED })
      const { databaseUrl = '', identityFile } = first
      const node = { database: 'postgres' as const, databaseUrl, identityFile, redisUrl }
      bus = createFaultBus()
      second = await startTestServer({ ...node, bus: bus.wrap, flags: NEVER_POLLED })
      polledBus = createFaultBus()
      polled = await startTestServer({ ...node, bus: polledBus.wrap })
    })
    afterAll(async () => {
      await second?.close()
      await polled?.close()
      await first?.close()
    })

    test('ORD-3: events stored by two nodes at once get one sequence, the same for all', async () => {
      const { devices } = await createAccount(first, { devices: 4 })
      const sessions = await Promise.all(devices.map((device, i) => follow(i % 2 === 0 ? first : second, device)))
      for (const device of devices) for (const name of ['a', 'b', 'a']) await device.sealMany(name, 15)
      for (const [i, session] of sessions.entries()) publishInFrames(session, devices[i]!.sealed, i)
      await Promise.all(sessions.map((session) => haveReceipts(session, 45)))
      await Promise.all(sessions.map((session) => haveEvents(session, 135)))
      const logs = sessions.map((session, i) => logOf(devices[i]!, session))
      expectSoundLog(logs[0]!, 180)
      for (const log of logs) expect(log).toEqual(logs[0])
    })

    test('P4: a device that moves to another node in the middle of a batch gets the first receipts there', async () => {
      const { devices } = await createAccount(first, { devices: 2 })
      const [writer, reader] = [devices[0]!, devices[1]!]
      const [writing, reading] = [await follow(first, writer), await follow(first, reader)]
      const events = await writer.sealMany('notes', 30)
      writing.socket.pause()
      publishInFrames(writing, events.slice(0, 20), 3)
      await haveEvents(reading, 20)
      writing.drop()
      const moved = await writer.connect(second)
      publishInFrames(moved, events, 4)
      await haveReceipts(moved, 30)
      expect(moved.receipts.map(([deviceSeq, , userSeq, , isDuplicate]) => [deviceSeq, userSeq, isDuplicate])).toEqual(
        oneTo(30).map((n) => [n, n, n <= 20]),
      )
      await haveEvents(reading, 30)
      expectSoundLog(logOf(reader, reading), 30)
    })

    interface Relay {
      readonly account: TestAccount
      readonly writing: RawSession
      readonly reading: RawSession
    }

    /** A writer on the first node and a reader on the given one, whose bus follows the plan from then on. */
    const relayTo = async (node: TestServer, faults: FaultBus, plan: FaultPlan): Promise<Relay> => {
      const account = await createAccount(first, { devices: 2 })
      const [writing, reading] = [await follow(first, account.devices[0]!), await follow(node, account.devices[1]!)]
      faults.setPlan(plan)
      return { account, writing, reading }
    }

    /** Each event in a transaction, and so in an announcement, of its own. */
    const publishOneByOne = async ({ account, writing }: Relay, count: number): Promise<void> => {
      for (let i = 0; i < count; i++) {
        const before = writing.receipts.length
        writing.publish(wiresOf([await account.devices[0]!.seal('notes')]))
        await haveReceipts(writing, before + 1)
      }
    }

    const expectInOrder = ({ reading }: Relay, count: number): void =>
      expect(reading.events.map((event) => event.userSeq)).toEqual(oneTo(count))

    test('ORD-5: lost announcements: the next one that comes shows the gap, and it is read from the log', async () => {
      let heard = 0
      const relay = await relayTo(second, bus, () => ({ type: ++heard % 5 === 0 ? 'pass' : 'lose' }))
      const lost = bus.counts.lose
      await publishOneByOne(relay, 20)
      await haveEvents(relay.reading, 20)
      expectInOrder(relay, 20)
      expect(bus.counts.lose - lost).toBe(16)
    })

    test('ORD-5: lost announcements and none after them: the heads are compared with the log', async () => {
      const relay = await relayTo(polled, polledBus, () => ({ type: 'lose' }))
      await publishOneByOne(relay, 10)
      await haveEvents(relay.reading, 10)
      expectInOrder(relay, 10)
      expect(polledBus.counts.pass).toBe(0)
    })

    test('ORD-5: doubled announcements: each event is delivered once', async () => {
      const relay = await relayTo(second, bus, () => ({ type: 'double' }))
      const doubled = bus.counts.double
      await publishOneByOne(relay, 20)
      await haveEvents(relay.reading, 20)
      bus.setPlan(passAll)
      await publishOneByOne(relay, 1)
      await haveEvents(relay.reading, 21)
      expectInOrder(relay, 21)
      expect(bus.counts.double - doubled).toBe(20)
    })

    test('ORD-5: announcements delayed and handed on in reverse: order is that of the log', async () => {
      const relay = await relayTo(second, bus, () => ({ type: 'hold', passing: Number.POSITIVE_INFINITY }))
      const held = bus.counts.hold
      await publishOneByOne(relay, 10)
      await waitFor(
        'ten held announcements',
        async () => bus.counts.hold - held,
        (count) => count === 10,
      )
      expect(relay.reading.events).toEqual([])
      bus.release()
      await haveEvents(relay.reading, 10)
      bus.setPlan(passAll)
      await publishOneByOne(relay, 1)
      await haveEvents(relay.reading, 11)
      expectInOrder(relay, 11)
    })

    test('ORD-5: announcements lost, doubled, delayed and swapped as chance has it', async () => {
      const relay = await relayTo(polled, polledBus, randomPlan(createSeededRandom(11)))
      await publishOneByOne(relay, 60)
      await haveEvents(relay.reading, 60)
      polledBus.setPlan(passAll)
      polledBus.release()
      await publishOneByOne(relay, 1)
      await haveEvents(relay.reading, 61)
      expectInOrder(relay, 61)
    })
  })
}
