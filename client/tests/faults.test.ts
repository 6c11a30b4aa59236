// Devices in the wrong hands, and a server that helps them: honest devices stay live, agree on who is held back and from
// where, and show the same events. A device that has done nothing wrong is silenced by nobody.

import { findDevice } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { describe, expect, test } from 'vitest'
import { encodeReportPart, FAULT_STREAM, FAULT_TYPE } from '../src/receive/fault-report.ts'
import type { HoldChange } from '../src/receive/holds.ts'
import { verifyDevice } from '../src/verify.ts'
import { check, exportOf } from './support/export-of.ts'
import { FAULTS, publishHostile, withOtherSignature } from './support/hostile-device.ts'
import { expire } from './support/published-log.ts'
import { recoverClient } from './support/recovering.ts'
import { publish, revoke, start, stopCode, stopped } from './support/revoking.ts'
import {
  createFirstDevice,
  createNextDevice,
  rotateEpoch,
  type TestDevice,
  text,
  toText,
} from './support/test-device.ts'
import { createTestServer, type TestServer } from './support/test-server.ts'
import { until } from './support/until.ts'

const LATER_MS = 1_700_000_000_000 + 60_000

interface Cast {
  readonly server: TestServer
  /** Honest. */
  readonly manager: TestDevice
  readonly member: TestDevice
  /** In the wrong hands, both. */
  readonly thief: TestDevice
  readonly accomplice: TestDevice
}

/** The honest devices are live; the thief's know the keys and are offline. */
async function createCast(): Promise<Cast> {
  const server = createTestServer()
  server.tellsOfEntries = true
  const manager = await createFirstDevice(server)
  const member = await createNextDevice(server, manager)
  const thief = await createNextDevice(server, manager)
  const accomplice = await createNextDevice(server, manager)
  await start(manager, member, thief, accomplice)
  await thief.client.close()
  await accomplice.client.close()
  return { server, manager, member, thief, accomplice }
}

const cutOf = ({ server }: Cast, { identity }: TestDevice) => {
  const { status } = findDevice(server.state, identity.deviceId)!
  return status.type === 'active' ? undefined : { type: status.type, lastSeq: status.lastSeq }
}
const promote = ({ manager }: Cast, { identity }: TestDevice): Promise<boolean> =>
  manager.client.changeRole({ deviceId: identity.deviceId, role: 'manager' })
const holdOf = ({ client }: TestDevice, { identity }: TestDevice) => {
  const hold = client.device.holds.standing.holdOf(identity.deviceId)
  return hold && { kind: hold.kind, fromSeq: hold.fromSeq }
}

/** All that is stored is read, here and in the device log. */
const hasReadAll = ({ server }: Cast, { client }: TestDevice): boolean =>
  client.cursor() >= server.events.length && client.device.book.require().seq === server.state!.seq

async function settle(cast: Cast, ...devices: TestDevice[]): Promise<void> {
  for (const { client } of devices) await client.flush()
  await until(() => devices.every((device) => hasReadAll(cast, device)), 'all devices to have read all')
}

/** What a reader of the stream is handed, own events included. */
async function shown({ client }: TestDevice): Promise<string[]> {
  const bodies: string[] = []
  for await (const { content } of client.device.reader.stored('notes')) bodies.push(toText(content.body))
  return bodies
}

async function expectAgreement(cast: Cast, devices: readonly TestDevice[], texts: readonly string[]): Promise<void> {
  await settle(cast, ...devices)
  for (const device of devices) {
    expect(stopCode(device)).toBeUndefined()
    expect(await shown(device)).toEqual(texts)
    expect((await verifyDevice(crypto, device.client.device)).problems).toEqual([])
  }
}

/** The receivers, besides the manager, and how the others come to the faulty event. */
const RECEIVERS = ['live', 'offline', 'restarted', 'joining'] as const

describe('a stolen device publishes what nobody can open', () => {
  for (const role of ['member', 'manager'] as const) {
    for (const receiver of RECEIVERS) {
      test.each(FAULTS)(`FLT-1: a ${role}, by a fault of %s, with the others ${receiver}`, async (fault) => {
        const cast = await createCast()
        const { server, manager, member, thief } = cast
        if (role === 'manager') await promote(cast, thief)
        await publish(manager, 'm1')
        await publish(member, 'h1')
        await publishHostile(server, thief, { text: 'a1' })
        await settle(cast, manager, member)
        if (receiver === 'offline') await member.client.close()

        await publishHostile(server, thief, { text: 'x', fault })
        await publishHostile(server, thief, { text: 'a2' })
        await until(() => cutOf(cast, thief) !== undefined, 'the suspension')
        expect(cutOf(cast, thief)).toEqual({ type: 'suspended', lastSeq: 1 })

        if (receiver === 'offline' || receiver === 'restarted') {
          await member.restart()
          await start(member)
        }
        const honest = [manager, member]
        if (receiver === 'joining') {
          const joiner = await createNextDevice(server, manager)
          server.push({ type: 'device_log', request_id: null, entries: [], head_seq: server.state!.seq })
          await start(joiner)
          honest.push(joiner)
        }
        await publish(manager, 'm2')
        await publish(member, 'h2')
        await expectAgreement(cast, honest, ['m1', 'h1', 'a1', 'm2', 'h2'])
        expect(cutOf(cast, manager)).toBeUndefined()
        expect(cutOf(cast, member)).toBeUndefined()
      })
    }
  }

  test.each(FAULTS)('FLT-1: members alone hold it back, by a fault of %s, and stay live', async (fault) => {
    const cast = await createCast()
    const { server, manager, member, thief } = cast
    await manager.client.close()
    await publishHostile(server, thief, { text: 'a1' }, { text: 'x', fault })
    await publishHostile(server, thief, { text: 'a2' })
    await publish(member, 'h1')
    await settle(cast, member)
    expect(holdOf(member, thief)).toEqual({ kind: fault, fromSeq: 2 })
    expect(await shown(member)).toEqual(['a1', 'h1'])
    expect(cutOf(cast, thief)).toBeUndefined()

    await member.restart()
    await start(member)
    expect(holdOf(member, thief)).toEqual({ kind: fault, fromSeq: 2 })
    await manager.restart()
    await start(manager)
    await until(() => cutOf(cast, thief) !== undefined, 'the suspension')
    await expectAgreement(cast, [manager, member], ['a1', 'h1'])
  })

  // A reader that gets a wrong signature together with a later one does not look at it.
  test.each(FAULTS.filter((fault) => fault !== 'signature'))(
    'FLT-1, REC-2: the phrase gets the account back past a fault of %s, and suspends its device',
    async (fault) => {
      const cast = await createCast()
      const { server, manager, member, thief, accomplice } = cast
      for (const device of [thief, accomplice]) await promote(cast, device)
      await publish(manager, 'm1')
      await publishHostile(server, thief, { text: 'a1' }, { text: 'x', fault })
      await manager.client.close()
      await member.client.close()
      await publishHostile(server, accomplice, { text: 'y', fault })
      await publishHostile(server, accomplice, { text: 'b' })
      const client = await recoverClient(server, manager.phrase!)
      await until(() => [thief, accomplice].every((each) => cutOf(cast, each) !== undefined), 'both suspensions')
      const bodies: string[] = []
      for await (const { content } of client.device.reader.stored('notes')) bodies.push(toText(content.body))
      expect(bodies).toEqual(['m1', 'a1'])
      expect(client.state().type).toBe('live')
      await client.revokeDevices({ deviceIds: [thief.identity.deviceId], reason: 'stolen' })
      expect(cutOf(cast, thief)).toEqual({ type: 'revoked', lastSeq: 1 })
    },
  )

  test('FLT-1: two devices that collude are both suspended, and neither takes an honest one with it', async () => {
    const cast = await createCast()
    const { server, manager, member, thief, accomplice } = cast
    await promote(cast, thief)
    await publishHostile(server, thief, { text: 'x', fault: 'unopenable' })
    await publishHostile(server, accomplice, { text: 'y', fault: 'signature' })
    await publishHostile(server, accomplice, { text: 'b' })
    await until(() => [thief, accomplice].every((each) => cutOf(cast, each) !== undefined), 'both suspensions')
    await publish(member, 'h1')
    await expectAgreement(cast, [manager, member], ['h1'])
    expect([cutOf(cast, manager), cutOf(cast, member)]).toEqual([undefined, undefined])
  })

  test('FLT-1: a suspended device is revoked where it was cut', async () => {
    const cast = await createCast()
    const { server, manager, member, thief } = cast
    await publishHostile(server, thief, { text: 'a1' }, { text: 'x', fault: 'unparsable' })
    await until(() => cutOf(cast, thief)?.type === 'suspended', 'the suspension')
    await revoke(manager, thief)
    expect(cutOf(cast, thief)).toEqual({ type: 'revoked', lastSeq: 1 })
    await publish(member, 'h1')
    await expectAgreement(cast, [manager, member], ['a1', 'h1'])
  })

  test('FLT-1: a fault found after later events were applied names what counts no more', async () => {
    const cast = await createCast()
    const { server, manager, member, thief } = cast
    const named: number[] = []
    manager.client.onVoided((events) => named.push(...events.map(({ deviceSeq }) => deviceSeq)))
    const alone = member.client
    // The manager is given all of it at once, and looks at the last signature only; the member is given the first by itself.
    await publishHostile(server, thief, { text: 'x', fault: 'signature' }, { text: 'a1' })
    await until(() => manager.client.cursor() === 2, 'the events at the manager')
    expect(await shown(manager)).toEqual(['x', 'a1'])
    expect(stopCode(member)).toBeUndefined()
    await alone.close()
    const late = await createNextDevice(server, manager)
    server.push({ type: 'device_log', request_id: null, entries: [], head_seq: server.state!.seq })
    server.distort = (message) =>
      message.type === 'events' && message.events.length > 1
        ? message.events.map((event) => ({ ...message, events: [event], through: event[0] }))
        : [message]
    await start(late)
    await until(() => cutOf(cast, thief) !== undefined, 'the suspension')
    expect(cutOf(cast, thief)).toEqual({ type: 'suspended', lastSeq: 0 })
    await expectAgreement(cast, [manager, late], [])
    expect(named).toEqual([1, 2])
  })
})

test.each(FAULTS)('EXP-1, FLT-1: an export holds what is held back sealed, by a fault of %s', async (fault) => {
  const cast = await createCast()
  const { server, manager, member, thief } = cast
  await manager.client.close()
  await publishHostile(server, thief, { text: 'a1' }, { text: 'x', fault })
  await publishHostile(server, thief, { text: 'a2' })
  await publish(member, 'h1')
  await settle(cast, member)
  await member.client.close()
  const lines = await exportOf(member)
  const summary = await check(lines)
  expect(summary.heldBack).toBe(2)
  expect(lines.filter((line) => JSON.parse(line).type === 'held')).toHaveLength(2)
})

describe('reports', () => {
  test.each(FAULTS)('FLT-3: who only gets the leaf of a fault of %s learns it from a report', async (fault) => {
    const cast = await createCast()
    const { server, manager, member, thief } = cast
    await manager.client.close()
    await publishHostile(server, thief, { text: 'x', fault, header: { ttlS: fault === 'kept_mismatch' ? 0 : 1 } })
    await publishHostile(server, thief, { text: 'a1' })
    await settle(cast, member)
    await until(() => server.events.length > 2 || fault === 'kept_mismatch', 'the report')
    await settle(cast, member)
    const [first] = server.events
    if (fault !== 'kept_mismatch') server.distort = leavesOnly(first!.item[0], server)
    await manager.restart()
    await start(manager)
    await until(() => cutOf(cast, thief) !== undefined, 'the suspension')
    expect(cutOf(cast, thief)).toEqual({ type: 'suspended', lastSeq: 0 })
    await expectAgreement(cast, [manager, member], [])
  })

  test('FLT-3: a report of an honest event, or of bytes that stand nowhere, silences nobody', async () => {
    const cast = await createCast()
    const { server, manager, member, thief } = cast
    await publish(member, 'h1')
    const { item, deviceId } = server.events.at(-1)!
    // A later signature proves what stands at the place of the first event, whatever a report says of it.
    await publish(member, 'h1 again')
    await settle(cast, manager, member)
    for (const bytes of [item[3], withOtherSignature(item[3])]) {
      const part = { deviceId, deviceSeq: 1, part: 0, parts: 1, bytes }
      const content = { type: FAULT_TYPE, body: encodeReportPart(part) }
      await publishHostile(server, thief, { text: '', stream: FAULT_STREAM, content, header: { isKept: true } })
    }
    await publish(member, 'h2')
    await expectAgreement(cast, [manager, member], ['h1', 'h1 again', 'h2'])
    expect([cutOf(cast, thief), cutOf(cast, member)]).toEqual([undefined, undefined])
    expect(holdOf(manager, member)).toBeUndefined()
  })

  test('FLT-3: a report of a later fault releases nothing that is held from an earlier one', async () => {
    const cast = await createCast()
    const { server, manager, member, thief, accomplice } = cast
    await manager.client.close()
    await publishHostile(server, thief, { text: 'a1' }, { text: 'x', fault: 'unparsable' }, { text: 'between' })
    const [wire] = await publishHostile(server, thief, { text: 'y', fault: 'unopenable' })
    const part = { deviceId: thief.identity.deviceId, deviceSeq: 4, part: 0, parts: 1, bytes: wire! }
    const content = { type: FAULT_TYPE, body: encodeReportPart(part) }
    await publishHostile(server, accomplice, { text: '', stream: FAULT_STREAM, content, header: { isKept: true } })
    await settle(cast, member)
    expect(holdOf(member, thief)).toEqual({ kind: 'unparsable', fromSeq: 2 })
    expect(await shown(member)).toEqual(['a1'])
  })

  test('FLT-3: a server that invents leaves cannot frame a device with the help of another one', async () => {
    const cast = await createCast()
    const { server, manager, member, thief } = cast
    await manager.client.close()
    await member.client.publish('notes', text('h1'), { ttlS: 1 })
    await member.client.publish('notes', text('h2'), { ttlS: 1 })
    await member.client.flush()
    // To the manager the first event comes as the leaf of bytes with another signature, the second as an invented one.
    const [first, second] = server.events.map(({ item }) => item)
    const forged = withOtherSignature(first![3])
    const lie = new Map([
      [first![0], expire(exchanged(first!))],
      [second![0], expire(exchanged(second!))],
    ])
    server.distort = (message) =>
      message.type === 'events'
        ? [{ ...message, events: message.events.map((item) => lie.get(item[0]) ?? item), at: LATER_MS }]
        : [message]
    const part = { deviceId: member.identity.deviceId, deviceSeq: 1, part: 0, parts: 1, bytes: forged }
    const content = { type: FAULT_TYPE, body: encodeReportPart(part) }
    await publishHostile(server, thief, { text: '', stream: FAULT_STREAM, content, header: { isKept: true } })
    await manager.restart()
    await start(manager)
    await settle(cast, manager)
    expect(holdOf(manager, member)).toBeUndefined()
    expect(cutOf(cast, member)).toBeUndefined()
  })

  test('FLT-3: parts that do not belong together, and garbage, report nothing', async () => {
    const cast = await createCast()
    const { server, manager, member, thief } = cast
    await publish(member, 'h1')
    const { item, deviceId } = server.events.at(-1)!
    const part = (at: number, parts: number, bytes: Uint8Array) =>
      encodeReportPart({ deviceId, deviceSeq: 1, part: at, parts, bytes })
    const bodies = [
      new Uint8Array(0),
      Uint8Array.of(2, 0, 0),
      part(1, 2, item[3].subarray(100)),
      part(0, 2, item[3].subarray(0, 100)),
      part(0, 3, item[3].subarray(0, 100)),
      part(1, 2, item[3].subarray(100)),
    ]
    for (const body of bodies) {
      const content = { type: FAULT_TYPE, body }
      await publishHostile(server, thief, { text: '', stream: FAULT_STREAM, content, header: { isKept: true } })
    }
    await expectAgreement(cast, [manager, member], ['h1'])
    expect(cutOf(cast, thief)).toBeUndefined()
  })
})

describe('a server that helps', () => {
  test('FLT-2: one that exchanges a signature holds back nobody for good, and the next event shows who did it', async () => {
    const cast = await createCast()
    const { server, manager, member } = cast
    const released: HoldChange[] = []
    manager.client.onHeld((change) => released.push(change))
    server.distort = (message) =>
      message.type === 'events'
        ? [{ ...message, events: message.events.map((each) => (each.length === 4 ? exchanged(each) : each)) }]
        : [message]
    await publish(member, 'h1')
    await until(() => holdOf(manager, member) !== undefined, 'the hold')
    expect(holdOf(manager, member)).toEqual({ kind: 'unproved', fromSeq: 1 })
    server.distort = (message) => [message]
    await publish(member, 'h2')
    await stopped(manager)
    expect(stopCode(manager)).toBe('chain_forked')
    expect(cutOf(cast, member)).toBeUndefined()
  })

  test('FLT-2: an unproved tail is released by the next signature that holds', async () => {
    const cast = await createCast()
    const { server, manager, thief } = cast
    // Nobody can say yet who did this: the event is the newest of its device.
    await publishHostile(server, thief, { text: 'a1' }, { text: 'x', fault: 'signature' })
    await until(() => holdOf(manager, thief) !== undefined, 'the hold')
    expect(holdOf(manager, thief)).toEqual({ kind: 'unproved', fromSeq: 2 })
    expect(cutOf(cast, thief)).toBeUndefined()
    expect(await shown(manager)).toEqual(['a1'])
    await publishHostile(server, thief, { text: 'a2' })
    await until(() => cutOf(cast, thief) !== undefined, 'the suspension')
    expect(cutOf(cast, thief)).toEqual({ type: 'suspended', lastSeq: 1 })
  })

  test('FLT-2: what a signature has proved is judged after a restart, if the process ended before', async () => {
    const cast = await createCast()
    const { server, member, thief, manager } = cast
    await manager.client.close()
    await publishHostile(server, thief, { text: 'a1' }, { text: 'x', fault: 'signature' })
    await until(() => holdOf(member, thief) !== undefined, 'the hold')
    // The batch that proves it is stored, and nothing after it.
    const { batch } = member.store
    let isOver = false
    member.store.batch = async (operations) => {
      if (isOver) throw new Error('the process ended')
      await batch(operations)
      isOver = operations.some(({ key }) => key === 'progress')
    }
    await publishHostile(server, thief, { text: 'a2' })
    await until(() => isOver, 'the batch')
    await member.client.close()
    member.store.batch = batch
    await member.restart()
    expect(holdOf(member, thief)).toEqual({ kind: 'unjudged', fromSeq: 2 })
    await start(member)
    expect(holdOf(member, thief)).toEqual({ kind: 'signature', fromSeq: 2 })
  })

  test('FLT-2: an unproved tail blames nobody in the next session either, nor after a restart', async () => {
    const cast = await createCast()
    const { server, manager, thief } = cast
    await publishHostile(server, thief, { text: 'a1' }, { text: 'x', fault: 'signature' })
    await until(() => holdOf(manager, thief) !== undefined, 'the hold')
    server.cut()
    manager.clock.advance(60_000)
    await manager.client.whenLive()
    await manager.restart()
    await start(manager)
    await settle(cast, manager)
    expect(holdOf(manager, thief)).toEqual({ kind: 'unproved', fromSeq: 2 })
    expect(cutOf(cast, thief)).toBeUndefined()
    const { problems } = await verifyDevice(crypto, manager.client.device)
    expect(problems).toEqual([])
  })

  test('FLT-4: after an alarm a new session neither asks for events nor sends any', async () => {
    const cast = await createCast()
    const { server, manager, member, thief } = cast
    await publish(member, 'h1')
    await settle(cast, manager, member)
    await member.client.close()
    server.intercept = (message) => message.type === 'publish'
    await manager.client.publish('notes', text('unsent'))
    server.distort = (message) =>
      message.type === 'events' ? [{ ...message, events: message.events.map(moved) }] : [message]
    await publishHostile(server, thief, { text: 'a1' })
    await stopped(manager)
    const asked: string[] = []
    server.intercept = ({ type }) => {
      asked.push(type)
      return false
    }
    server.cut()
    manager.clock.advance(60_000)
    await manager.client.rotateEpoch()
    expect(asked).toContain('append_device_log')
    expect(asked.filter((type) => type === 'resume' || type === 'publish')).toEqual([])
    expect(manager.client.device.outbox.count).toBe(1)
  })

  test('FLT-4: an alarm that the server causes leaves revoking and rotating to the user, also after a restart', async () => {
    const cast = await createCast()
    const { server, manager, member, thief } = cast
    await publish(member, 'h1')
    await settle(cast, manager, member)
    server.distort = (message) =>
      message.type === 'events' ? [{ ...message, events: message.events.map(moved) }] : [message]
    await publishHostile(server, thief, { text: 'a1' })
    await stopped(manager)
    expect(stopCode(manager)).toBe('stream_order_broken')
    await manager.client.rotateEpoch()
    expect(server.state!.epoch.n).toBe(2)
    expect(stopCode(manager)).toBe('stream_order_broken')

    await manager.restart()
    manager.client.start()
    await revoke(manager, thief)
    expect(cutOf(cast, thief)).toEqual({ type: 'revoked', lastSeq: 0 })
    server.cut()
    manager.clock.advance(60_000)
    await manager.client.changeRole({ deviceId: member.identity.deviceId, role: 'manager' })
    expect(findDevice(server.state, member.identity.deviceId)!.record.role).toBe('manager')
    await expect(manager.client.publish('notes', { type: 'text', body: new Uint8Array(0) })).rejects.toThrow()
  })

  test('FLT-4: an alarm about the device log leaves nothing to sign on', async () => {
    const cast = await createCast()
    const { server, manager, thief } = cast
    await manager.restart()
    server.distort = (message) =>
      message.type === 'session_established' ? [{ ...message, device_log_head: new Uint8Array(32) }] : [message]
    manager.client.start()
    await stopped(manager)
    expect(stopCode(manager)).toBe('device_log_forked')
    await expect(revoke(manager, thief)).rejects.toThrow(/device log/)
  })

  test('FLT-1: a key that is not here yet holds nobody to be at fault', async () => {
    const cast = await createCast()
    const { server, manager, member } = cast
    await rotateEpoch(server, manager)
    await publish(member, 'h1')
    await expectAgreement(cast, [manager, member], ['h1'])
    expect(holdOf(manager, member)).toBeUndefined()
  })
})

type Item = TestServer['events'][number]['item']
type Distort = TestServer['distort']

const exchanged = ([userSeq, streamSeq, storedAtMs, wire]: Item): Item => [
  userSeq,
  streamSeq,
  storedAtMs,
  withOtherSignature(wire),
]

/** In another place of its stream than it has. */
const moved = <Each extends readonly unknown[]>(item: Each): Each =>
  item.map((field, at) => (at === 1 ? (field as number) + 7 : field)) as unknown as Each

/** The lifetime of one event is over. */
const leavesOnly =
  (userSeq: number, server: TestServer): Distort =>
  (message) => {
    if (message.type !== 'events') return [message]
    const events = message.events.map((item) => (item.length === 4 && item[0] === userSeq ? expire(item) : item))
    return [{ ...message, events, at: LATER_MS, head: server.events.length }]
  }
