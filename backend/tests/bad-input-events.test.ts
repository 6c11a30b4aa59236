// Events that the server can tell are wrong without a key (PROTOCOL E): each is refused by its code, stops none of its
// neighbours, and the device's next right event is stored as if nothing had been (ORD-1, ORD-6).

import {
  applyEntry,
  type ChainPosition,
  chainStart,
  createEventId,
  ERRORS,
  entryHash,
  MAX_TTL_S,
  toHex,
} from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { DeviceKeys } from '../../client/src/sealing/device-keys.ts'
import { sealEvent } from '../../client/src/sealing/event-seal.ts'
import {
  appendEntry,
  authorOf,
  createKeys,
  openRegistration,
  register,
  registrationIdentity,
  sealAdd,
  sealGenesis,
  sealRotate,
} from './bad-input/entries.ts'
import { flipByte, indexes, within } from './bad-input/handshake-steps.ts'
import { createAccount, type PublishedEvent, type TestAccount, type TestDevice } from './support/account.ts'
import { runSql } from './support/database.ts'
import { openSession, type RawSession } from './support/raw-device.ts'
import { startTestServer, type TestServer } from './support/server.ts'

const HOUR_MS = 3_600_000
const MAX_PAYLOAD = 1024
const MAX_STREAMS = 8

const patch = (wire: Uint8Array, at: number, bytes: readonly number[]): Uint8Array => {
  const patched = wire.slice()
  patched.set(bytes, at)
  return patched
}
/** Where fields of the header begin (PROTOCOL E). */
const AT = { version: 0, deviceSeq: 49, eventId: 105, epoch: 121, logSeq: 125, ttlS: 165, flags: 169, length: 194 }
const deviceSeqOf = (wire: Uint8Array): number => Number(Buffer.from(wire).readBigUInt64BE(AT.deviceSeq))
const u32 = (value: number): number[] => [24, 16, 8, 0].map((shift) => (value >>> shift) & 0xff)

/** Publishes and resolves when each event has its answer. */
async function publish(session: RawSession, ...wires: readonly Uint8Array[]): Promise<void> {
  const answered = session.receipts.length + session.refusals.length + wires.length
  session.publish(wires)
  await session.until('the answers', () => session.receipts.length + session.refusals.length === answered)
}

const deviceSeqs = (session: RawSession): number[] => session.receipts.map(([deviceSeq]) => deviceSeq)

describe.each(['postgres', 'pglite'] as const)('on %s', (database) => {
  let server: TestServer
  let account: TestAccount
  let device: TestDevice
  let sibling: TestDevice
  let stranger: TestDevice
  let session: RawSession
  let receiver: RawSession

  beforeAll(async () => {
    const flags = { VALISE_MAX_PAYLOAD_BYTES: String(MAX_PAYLOAD), VALISE_MAX_STREAMS: String(MAX_STREAMS) }
    server = await startTestServer({ database, flags })
    stranger = (await createAccount(server)).devices[0]!
  })
  afterAll(() => server?.close())

  /** Connects the two devices of `account`; the result disconnects them. */
  const enter = async (): Promise<() => void> => {
    ;[device, sibling] = account.devices as [TestDevice, TestDevice]
    session = await device.connect(server)
    receiver = await sibling.connect(server)
    const { head } = session.established
    receiver.send({ type: 'resume', cursor: head, log_epoch: null })
    await receiver.until('the replay', () => receiver.isCaughtUp)
    return () => {
      session.drop()
      receiver.drop()
    }
  }

  /** The sibling gets exactly these since the test began, in this order. */
  async function expectReceived(events: readonly PublishedEvent[]): Promise<void> {
    await receiver.until('the events', () => receiver.events.length >= events.length)
    expect(receiver.events.map(({ eventId }) => eventId)).toEqual(events.map(({ eventId }) => toHex(eventId)))
  }

  /** The number of the device's next event, plus `ahead`. */
  const numberAhead = async (ahead: number): Promise<number> => (await device.sealAside('notes')).deviceSeq + ahead

  /** The genesis entry of the account. */
  const atGenesis = async () => {
    const answer = await receiver.ask({ type: 'fetch_device_log', request_id: 0, after_seq: null })
    const entry = answer.type === 'device_log' ? answer.entries[0] : undefined
    if (entry === undefined) throw new Error('the device log was not sent')
    return { logSeq: 0, logHead: entryHash(nodeCrypto, entry) }
  }

  /** The device's newest event. */
  const ownPosition = async (): Promise<ChainPosition> => {
    const last = device.sealed.at(-1)
    if (last === undefined) throw new Error('the device has sealed nothing')
    return { deviceId: device.deviceId, deviceSeq: last.deviceSeq, chain: last.chain }
  }

  const sorted = (positions: readonly ChainPosition[]): ChainPosition[] =>
    [...positions].sort((a, b) => Buffer.compare(a.deviceId, b.deviceId))

  const sealCheckpoint = async (positions: readonly ChainPosition[]): Promise<Uint8Array> =>
    (await device.sealAside('notes', { header: { checkpoint: sorted(positions) } })).wire

  interface Wrong {
    readonly seal: () => Promise<Uint8Array>
    readonly code: string
    /** True when it is answered under the number 0. */
    readonly isUnreadable?: boolean
    /** True when the answer says which number continues. */
    readonly isGap?: boolean
  }
  const wrong: Record<string, Wrong> = {
    'another user': {
      seal: async () => (await device.sealAside('notes', { header: { userId: stranger.userId } })).wire,
      code: 'foreign_event',
    },
    'another device of the user': {
      seal: async () => (await sibling.sealAside('notes', { header: { deviceSeq: await numberAhead(0) } })).wire,
      code: 'foreign_event',
    },
    'a chain that is not stored': {
      seal: async () => (await device.sealAside('notes', { header: { chainPrev: nodeCrypto.randomBytes(32) } })).wire,
      code: 'chain_mismatch',
    },
    'a gap of one': {
      seal: async () => (await device.sealAside('notes', { header: { deviceSeq: await numberAhead(1) } })).wire,
      code: 'device_seq_gap',
      isGap: true,
    },
    'the highest number': {
      seal: async () => (await device.sealAside('notes', { header: { deviceSeq: Number.MAX_SAFE_INTEGER } })).wire,
      code: 'device_seq_gap',
      isGap: true,
    },
    'an entry that the device log does not have': {
      seal: async () => (await device.sealAside('notes', { header: { logSeq: account.log.seq + 1 } })).wire,
      code: 'log_seq_ahead',
    },
    'the highest entry there could be': {
      seal: async () => (await device.sealAside('notes', { header: { logSeq: Number.MAX_SAFE_INTEGER } })).wire,
      code: 'log_seq_ahead',
    },
    'another key epoch than the one in force': {
      seal: async () => (await device.sealAside('notes', { header: { epoch: account.log.epoch.n + 1 } })).wire,
      code: 'epoch_invalid',
    },
    'an older entry than the event before': {
      seal: async () => (await device.sealAside('notes', { header: await atGenesis() })).wire,
      code: 'log_seq_falls',
    },
    'another hash of the newest entry': {
      seal: async () => (await device.sealAside('notes', { header: { logHead: nodeCrypto.randomBytes(32) } })).wire,
      code: 'log_head_false',
    },
    'another hash of an older entry': {
      seal: async () => (await device.sealAside('notes', { header: { logSeq: 0 } })).wire,
      code: 'log_head_false',
    },
    'a checkpoint with a false chain of its own device': {
      seal: async () => sealCheckpoint([{ ...(await ownPosition()), chain: nodeCrypto.randomBytes(32) }]),
      code: 'checkpoint_false',
    },
    'a checkpoint that names itself': {
      seal: async () => sealCheckpoint([{ ...(await ownPosition()), deviceSeq: await numberAhead(0) }]),
      code: 'checkpoint_false',
    },
    'a checkpoint that is ahead of another device': {
      seal: async () => sealCheckpoint([{ deviceId: sibling.deviceId, deviceSeq: 9, chain: new Uint8Array(32) }]),
      code: 'checkpoint_false',
    },
    'a checkpoint with a device of another user': {
      seal: async () => sealCheckpoint([{ deviceId: stranger.deviceId, deviceSeq: 1, chain: new Uint8Array(32) }]),
      code: 'checkpoint_false',
    },
    'a true position beside a false one': {
      seal: async () =>
        sealCheckpoint([
          await ownPosition(),
          { deviceId: sibling.deviceId, deviceSeq: 1, chain: nodeCrypto.randomBytes(32) },
        ]),
      code: 'checkpoint_false',
    },
    'more than max_payload': {
      seal: async () => (await device.sealAside('notes', { data: new Uint8Array(2 * MAX_PAYLOAD) })).wire,
      code: 'payload_too_large',
    },
    'a lifetime that is over': {
      seal: async () => {
        const eventId = createEventId(Date.now() - HOUR_MS, nodeCrypto.randomBytes(10))
        return (await device.sealAside('notes', { header: { eventId, ttlS: 3599 } })).wire
      },
      code: 'event_expired',
    },
    'a lifetime that is over, at a number that is taken': {
      seal: async () => {
        const eventId = createEventId(Date.now() - HOUR_MS, nodeCrypto.randomBytes(10))
        const header = { eventId, ttlS: 3599, deviceSeq: await numberAhead(-1) }
        return (await device.sealAside('notes', { header })).wire
      },
      code: 'event_expired',
    },
    'one byte': { seal: async () => Uint8Array.of(1), code: 'invalid_event', isUnreadable: true },
    'random bytes': { seal: async () => nodeCrypto.randomBytes(400), code: 'invalid_event', isUnreadable: true },
    'a megabyte of zeros': { seal: async () => new Uint8Array(1_000_000), code: 'invalid_event', isUnreadable: true },
    ...Object.fromEntries(
      Object.entries({
        'cut by a byte': (wire: Uint8Array) => wire.subarray(0, -1),
        'a byte too long': (wire: Uint8Array) => Buffer.concat([wire, Buffer.of(0)]),
        'a length that is not its own': (wire: Uint8Array) => patch(wire, AT.length, u32(0xffff_ffff)),
        'another version': (wire: Uint8Array) => patch(wire, AT.version, [2]),
        'an unknown flag': (wire: Uint8Array) => patch(wire, AT.flags, [16]),
        'the flag that is reserved': (wire: Uint8Array) => patch(wire, AT.flags, [2]),
        'a checkpoint that is not kept': (wire: Uint8Array) => patch(wire, AT.flags, [4]),
        'a kept event with a lifetime': (wire: Uint8Array) => patch(patch(wire, AT.flags, [8]), AT.ttlS, u32(60)),
        'the number 0': (wire: Uint8Array) => patch(wire, AT.deviceSeq, [0, 0, 0, 0, 0, 0, 0, 0]),
        'a number above 2^53': (wire: Uint8Array) => patch(wire, AT.deviceSeq, [0, 32, 0, 0, 0, 0, 0, 0]),
        'a log_seq above 2^53': (wire: Uint8Array) => patch(wire, AT.logSeq, [255]),
        'the epoch 0': (wire: Uint8Array) => patch(wire, AT.epoch, [0, 0, 0, 0]),
        'a lifetime beyond the bound': (wire: Uint8Array) => patch(wire, AT.ttlS, u32(MAX_TTL_S + 1)),
        'an event_id that is no UUIDv7': (wire: Uint8Array) => patch(wire, AT.eventId + 6, [0x40]),
      }).map(([name, spoil]) => [
        name,
        { seal: async () => spoil((await device.sealAside('notes')).wire), code: 'invalid_event', isUnreadable: true },
      ]),
    ),
  }

  describe('one by one', () => {
    beforeAll(async () => {
      account = await createAccount(server, { devices: 2 })
    })
    beforeEach(enter)

    test.each(Object.entries(wrong))('ORD-6: %s is refused; the next right event is stored', async (_name, wrong) => {
      const first = await device.seal('notes')
      await publish(session, first.wire)
      const spoilt = await wrong.seal()
      await publish(session, spoilt)
      expect(session.refusals).toEqual([
        {
          type: 'refused',
          device_seq: wrong.isUnreadable ? 0 : deviceSeqOf(spoilt),
          code: wrong.code,
          ...(wrong.isGap ? { expected: first.deviceSeq + 1 } : {}),
        },
      ])
      // Once more, between two right ones in one message.
      const second = await device.seal('notes')
      const between = await wrong.seal()
      // The largest that there may be.
      const third = await device.seal('notes', { data: new Uint8Array(MAX_PAYLOAD) })
      await publish(session, second.wire, between, third.wire)
      expect(session.refusals.length).toBe(2)
      expect(deviceSeqs(session)).toEqual([first, second, third].map(({ deviceSeq }) => deviceSeq))
      await expectReceived([first, second, third])
    })
  })

  describe('each on a new account', () => {
    beforeEach(async () => {
      account = await createAccount(server, { devices: 2 })
      return enter()
    })

    test('ORD-1: another event at a number that is taken → 4409; the right ones go on in a new session', async () => {
      const twin = await device.sealAside('notes')
      const [first, second] = await device.sealMany('notes', 2)
      await publish(session, first!.wire)
      await publish(session, twin.wire)
      expect(session.refusals).toEqual([{ type: 'refused', device_seq: 1, code: 'device_seq_conflict' }])
      const { close: code, text: reason } = ERRORS.device_seq_conflict
      expect(await within('the close', session.closed)).toEqual({ code, reason })

      const again = await device.connect(server)
      expect(again.established.last_device_seq).toBe(1)
      await publish(again, first!.wire, second!.wire)
      expect(again.receipts.map(([deviceSeq, , , , isDuplicate]) => [deviceSeq, isDuplicate])).toEqual([
        [1, true],
        [2, false],
      ])
      await expectReceived([first!, second!])
      again.drop()
    })

    test('ORD-1: a conflict among many: what stands around it is answered or found again, and the sibling is not touched', async () => {
      const events = await device.sealMany('notes', 3)
      await publish(session, events[0]!.wire)
      const twin = { header: { deviceSeq: 1, chainPrev: nodeCrypto.randomBytes(32) } }
      const others = await sibling.sealMany('notes', 20)
      session.publish([events[1]!.wire, (await device.sealAside('notes', twin)).wire, events[2]!.wire])
      await publish(receiver, ...others.map(({ wire }) => wire))
      expect(deviceSeqs(receiver)).toEqual(indexes(20).map((index) => index + 1))
      expect((await within('the close', session.closed)).code).toBe(4409)
      const again = await device.connect(server)
      await publish(again, ...events.map(({ wire }) => wire))
      expect(deviceSeqs(again)).toEqual([1, 2, 3])
      again.drop()
    })

    test('DEV-2: under an older log than the newest epoch → stale_epoch, and a gap behind it; sealed anew it is stored', async () => {
      const first = await device.seal('notes')
      await publish(session, first.wire)
      const stale = await device.sealAside('notes')
      const behind = await device.sealAside('notes', { header: { deviceSeq: 3, chainPrev: stale.chain } })
      await appendEntry(account, session, await sealRotate(account, authorOf(device)))
      await publish(session, stale.wire, behind.wire)
      expect(session.refusals).toEqual([
        { type: 'refused', device_seq: 2, code: 'stale_epoch' },
        { type: 'refused', device_seq: 3, code: 'device_seq_gap', expected: 2 },
      ])
      const anew = await device.sealMany('notes', 2)
      await publish(session, ...anew.map(({ wire }) => wire))
      expect(deviceSeqs(session)).toEqual([1, 2, 3])
      await expectReceived([first, ...anew])
    })

    test('DEV-1: an entry above the head in the middle of a run → log_seq_ahead, and a gap behind it', async () => {
      const first = await device.seal('notes')
      const addition = await sealAdd(account, authorOf(device), await createKeys('member'))
      const header = { logSeq: account.log.seq + 1, logHead: entryHash(nodeCrypto, addition.entry) }
      const ahead = await device.sealAside('notes', { header })
      const behind = await device.sealAside('notes', { header: { deviceSeq: 3, chainPrev: ahead.chain } })
      await publish(session, first.wire, ahead.wire, behind.wire)
      expect(session.refusals).toEqual([
        { type: 'refused', device_seq: 2, code: 'log_seq_ahead' },
        { type: 'refused', device_seq: 3, code: 'device_seq_gap', expected: 2 },
      ])
      // The very event that was ahead is in order from the moment on at which its entry stands.
      await appendEntry(account, receiver, addition)
      await publish(session, ahead.wire)
      expect(deviceSeqs(session)).toEqual([1, 2])
      await expectReceived([first, ahead])
    })

    test('ORD-6: a device’s first event names no entry before the one that added it', async () => {
      const early = await sibling.sealAside('notes', { header: await atGenesis() })
      await publish(receiver, early.wire)
      expect(receiver.refusals).toEqual([{ type: 'refused', device_seq: 1, code: 'log_seq_falls' }])
      const right = await sibling.seal('notes')
      await publish(receiver, right.wire)
      expect(deviceSeqs(receiver)).toEqual([1])
    })

    test('ORD-6: a log_seq that falls within a run cuts it, and the devices beside it are not touched', async () => {
      const first = await device.seal('notes')
      const falls = await device.sealAside('notes', { header: await atGenesis() })
      const behind = await device.sealAside('notes', { header: { deviceSeq: 3, chainPrev: falls.chain } })
      const others = await sibling.sealMany('notes', 5)
      session.publish([first.wire, falls.wire, behind.wire])
      await publish(receiver, ...others.map(({ wire }) => wire))
      await session.until('the answers', () => session.receipts.length + session.refusals.length === 3)
      expect(session.refusals).toEqual([
        { type: 'refused', device_seq: 2, code: 'log_seq_falls' },
        { type: 'refused', device_seq: 3, code: 'device_seq_gap', expected: 2 },
      ])
      expect(deviceSeqs(receiver)).toEqual([1, 2, 3, 4, 5])
    })

    test('ORD-6: a true checkpoint is stored, also of events in the same message', async () => {
      const other = await sibling.seal('notes')
      await publish(receiver, other.wire)
      const [first, second] = await device.sealMany('notes', 2)
      const positions = [
        { deviceId: device.deviceId, deviceSeq: second!.deviceSeq, chain: second!.chain },
        { deviceId: sibling.deviceId, deviceSeq: 1, chain: other.chain },
      ]
      const checkpoint = await device.seal('notes', { header: { checkpoint: sorted(positions) } })
      await publish(session, first!.wire, second!.wire, checkpoint.wire)
      expect(deviceSeqs(session)).toEqual([1, 2, 3])
      await expectReceived([first!, second!, checkpoint])
    })

    test('RET-5: a position ahead of the log is taken from before the log epoch, and from then on refused', async () => {
      const began = session.established.log_epoch_at
      expect(began).toBeLessThanOrEqual(Date.now())
      const checkpoint = [{ deviceId: sibling.deviceId, deviceSeq: 7, chain: new Uint8Array(32) }]
      const eventId = (atMs: number) => createEventId(atMs, nodeCrypto.randomBytes(10))
      const newer = await device.sealAside('notes', { header: { checkpoint, eventId: eventId(began) } })
      await publish(session, newer.wire)
      expect(session.refusals).toEqual([{ type: 'refused', device_seq: 1, code: 'checkpoint_false' }])
      const older = await device.seal('notes', { header: { checkpoint, eventId: eventId(began - 1) } })
      await publish(session, older.wire)
      await expectReceived([older])
    })

    test.runIf(database === 'postgres')(
      'ORD-1, ORD-6: a suspended device stores nothing more, and has the receipts of what it stored',
      async () => {
        const first = await device.seal('notes')
        await publish(session, first.wire)
        const hex = Buffer.from(device.deviceId).toString('hex')
        await runSql(
          server.databaseUrl!,
          `update devices set suspended_at = now() where device_id = decode('${hex}', 'hex')`,
        )
        const second = await device.seal('notes')
        await publish(session, first.wire, second.wire)
        expect(session.receipts.map(([deviceSeq, , , , isDuplicate]) => [deviceSeq, isDuplicate])).toEqual([
          [1, false],
          [1, true],
        ])
        expect(session.refusals).toEqual([{ type: 'refused', device_seq: 2, code: 'device_suspended' }])
        expect(session.closeFrame).toBeUndefined()
        const other = await sibling.seal('notes')
        await publish(receiver, other.wire)
        expect(deviceSeqs(receiver)).toEqual([1])
      },
    )

    test('DEV-5: a recovery device publishes nothing, not even a tombstone; the account goes on', async () => {
      const [manager, recovery] = [await createKeys('manager'), await createKeys('recovery')]
      const registration = await openRegistration(server, manager)
      const genesis = await sealGenesis(manager, recovery)
      expect((await register(registration, genesis)).type).toBe('registered')
      const applied = applyEntry(nodeCrypto, undefined, genesis.entry)
      if (!applied.ok) throw new Error(applied.rule)
      const { userId, head } = applied.state
      const recovering = await openSession(server, {
        identity: { ...registrationIdentity(recovery), mode: 'recovery', publicKey: new Uint8Array(32), logHead: head },
        signer: recovery.signer,
      })
      const seal = (keys: DeviceKeys, isTombstone: boolean) =>
        sealEvent(
          nodeCrypto,
          keys.signer,
          nodeCrypto.randomBytes(32),
          {
            userId,
            deviceId: keys.deviceId,
            deviceSeq: 1,
            chainPrev: chainStart(nodeCrypto, userId, keys.deviceId),
            streamId: account.streamId('notes'),
            eventId: createEventId(Date.now(), nodeCrypto.randomBytes(10)),
            epoch: 1,
            logSeq: 0,
            logHead: head,
            ttlS: 0,
            isTombstone,
            isKept: false,
            checkpoint: undefined,
          },
          new Uint8Array(isTombstone ? 0 : 5),
        )
      await publish(recovering, (await seal(recovery, false)).wire, (await seal(recovery, true)).wire)
      const refusal = { type: 'refused', device_seq: 1, code: 'recovery_cannot_publish' }
      expect(recovering.refusals).toEqual([refusal, refusal])
      await publish(registration, (await seal(manager, false)).wire)
      expect(registration.receipts.map(([deviceSeq, , userSeq]) => [deviceSeq, userSeq])).toEqual([[1, 1]])
      recovering.drop()
      registration.drop()
    })

    test('P5: a stream too many is refused; streams that stand go on, and its number is free', async () => {
      const names = indexes(MAX_STREAMS).map((index) => `stream ${index}`)
      const events: PublishedEvent[] = []
      for (const name of names) events.push(await device.seal(name))
      await publish(session, ...events.map(({ wire }) => wire))
      await publish(session, (await device.sealAside('one too many')).wire)
      expect(session.refusals).toEqual([{ type: 'refused', device_seq: MAX_STREAMS + 1, code: 'stream_limit_reached' }])
      const tombstone = await device.seal(names[0]!, { data: new Uint8Array(0) })
      const next = await device.seal(names[1]!)
      await publish(session, tombstone.wire, next.wire)
      expect(deviceSeqs(session)).toEqual(indexes(MAX_STREAMS + 2).map((index) => index + 1))
      await expectReceived([...events, tombstone, next])
    })

    test('P4: the same event five times is stored once', async () => {
      const event = await device.seal('notes')
      await publish(session, event.wire, event.wire, event.wire)
      await publish(session, event.wire, event.wire)
      const [first, ...others] = session.receipts
      expect(first![4]).toBe(false)
      for (const other of others) expect(other).toEqual([...first!.slice(0, 4), true])
      const next = await device.seal('notes')
      await publish(session, next.wire)
      await expectReceived([event, next])
    })

    test('MSG-2: every byte of an event flipped: a code each, and nothing stored', async () => {
      const { wire } = await device.sealAside('notes', { header: { deviceSeq: 2 ** 40 } })
      await publish(session, ...indexes(wire.length).map((at) => flipByte(wire, at)))
      expect(session.refusals.length).toBe(wire.length)
      const codes = new Set(session.refusals.map(({ code }) => code))
      expect([...codes].sort()).toEqual([
        'device_seq_gap',
        'foreign_event',
        'invalid_event',
        'log_head_false',
        'log_seq_ahead',
      ])
      const right = await device.seal('notes')
      await publish(session, right.wire)
      await expectReceived([right])
    })
  })
})
