// The receiver's checks (PROTOCOL E), each broken once: what an honest server delivers passes, and nothing else.

import {
  activeDevices,
  buildRevoke,
  buildRotate,
  type DeviceLogState,
  type LeafItem,
  MAX_TTL_S,
  parseEvent,
  type StoredEvent,
  toHex,
  type UserId,
} from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { type CheckOutcome, checkEvents, type KnownLog } from '../src/receive/check-events.ts'
import { sealNextEpoch } from '../src/sealing/epoch-boxes.ts'
import { createPublishedLog, expire, knowing, type PublishedLog } from './support/published-log.ts'
import { authorOf, mustApply } from './support/sealed-account.ts'

let log: PublishedLog
let items: readonly StoredEvent[]
beforeAll(async () => {
  log = await createPublishedLog('reader', 'writer')
  for (const [name, stream] of [
    ['manager', 'a'],
    ['writer', 'a'],
    ['manager', 'b'],
    ['writer', 'b'],
    ['manager', 'a'],
  ] as const) {
    await log.publish(name, stream)
  }
  items = log.items
})

const check = (
  events: readonly (StoredEvent | LeafItem)[],
  known: KnownLog = knowing(log.state),
  through = events.at(-1)?.[0] ?? 0,
  at?: number,
): CheckOutcome => checkEvents({ crypto, known, ownDeviceId: log.deviceId('reader') }, { events, through, at })
const codeOf = (outcome: CheckOutcome): string =>
  outcome.type === 'alarm' || outcome.type === 'gap' ? `${outcome.type} ${outcome.alarm.code}` : outcome.type
const at = (index: number): StoredEvent => items[index]!
const withSeqs = (item: StoredEvent, userSeq: number, streamSeq = item[1]): StoredEvent => [
  userSeq,
  streamSeq,
  item[2],
  item[3],
]

describe('what an honest server delivers', () => {
  test('ORD-5: passes in one message and in any division of it', () => {
    const whole = check(items)
    expect(whole).toMatchObject({ type: 'ok', batch: { progress: { cursor: 5 } } })
    for (let cut = 1; cut < items.length; cut++) {
      const first = check(items.slice(0, cut))
      if (first.type !== 'ok') throw new Error(codeOf(first))
      const { progress, deviceHeads, streamHeads } = first.batch
      const second = check(items.slice(cut), knowing(log.state, { progress, deviceHeads, streamHeads }))
      expect(codeOf(second)).toBe('ok')
    }
  })

  test('ORD-5: leaves close the chain, wherever they stand', () => {
    const known = knowing(log.state, { prunedThrough: 5 })
    for (let index = 0; index < items.length; index++) {
      const mixed = items.map((item, i) => (i === index ? expire(item) : item))
      expect(codeOf(check(mixed, known))).toBe('ok')
    }
    expect(codeOf(check(items.map(expire), known))).toBe('ok')
  })

  test('ORD-5: own events fill their places, and the cursor moves over those that adjoin it', () => {
    const own = [6, 7].map((userSeq) => ({ userSeq, streamSeq: userSeq - 2, streamId: parseEvent(at(0)[3])!.streamId }))
    const outcome = check(items, knowing(log.state, { ownAhead: own }))
    expect(outcome).toMatchObject({ type: 'ok', batch: { progress: { cursor: 7, lastHole: 0 } } })
    expect(check([], knowing(log.state, { progress: { cursor: 5 }, ownAhead: own.slice(1) }), 5)).toMatchObject({
      batch: { progress: { cursor: 5 } },
    })
  })

  test('ORD-9: the cursor stays at the last event held, and what is claimed beyond it is counted as missing', () => {
    const nothing = { progress: { cursor: 0, holes: [] }, missing: 9 }
    expect(check([], knowing(log.state), 9)).toMatchObject({ batch: nothing })
    expect(check([], knowing(log.state, { progress: { cursor: 9 } }), 3)).toMatchObject({
      batch: { progress: { cursor: 9 }, missing: 0 },
    })
  })

  test('ORD-9: places below an event that nothing is held of are holes', () => {
    const [, , , wire] = at(0)
    const streamId = parseEvent(wire)!.streamId
    const ownAhead = [{ userSeq: 9, streamSeq: 6, streamId }]
    const known = knowing(log.state, { progress: { holes: [{ from: 1, to: 2 }], cursor: 3 }, ownAhead })
    expect(check([], known, 11)).toMatchObject({
      batch: {
        progress: {
          cursor: 9,
          holes: [
            { from: 1, to: 2 },
            { from: 4, to: 8 },
          ],
        },
        missing: 9,
      },
    })
  })
})

describe('what nobody may deliver', () => {
  test('ORD-5: events out of order, twice, or beyond through', () => {
    expect(codeOf(check([at(1), at(0)]))).toBe('alarm order_broken')
    expect(codeOf(check([at(0), withSeqs(at(1), 1)]))).toBe('alarm order_broken')
    expect(codeOf(check([at(0)], knowing(log.state, { progress: { cursor: 1 } })))).toBe('alarm order_broken')
    expect(codeOf(check([at(0), at(1)], knowing(log.state), 1))).toBe('alarm through_inconsistent')
  })

  test('ORD-1: an event that is missing, that comes again, or that does not continue its chain', async () => {
    expect(codeOf(check([at(0), at(1), at(4)]))).toBe('gap chain_gap')
    expect(codeOf(check([at(0), withSeqs(at(0), 2, 2)]))).toBe('alarm chain_repeated')
    const forked = await createPublishedLog('reader')
    await forked.publish('manager', 'a')
    await forked.publish('manager', 'a', { chainPrev: new Uint8Array(32).fill(9) })
    const outcome = checkEvents(
      { crypto, known: knowing(forked.state), ownDeviceId: undefined },
      { events: forked.items, through: 2 },
    )
    expect(codeOf(outcome)).toBe('alarm chain_forked')
  })

  test('ORD-1: a leaf that is not the one of its event: another inner hash, lifetime or flag', () => {
    const known = knowing(log.state, { prunedThrough: 5 })
    const leaf = expire(at(0))
    expect(codeOf(check([leaf, ...items.slice(1)], known))).toBe('ok')
    for (const forged of [leaf.with(7, new Uint8Array(32)), leaf.with(5, 1), leaf.with(6, 8)] as LeafItem[]) {
      expect(codeOf(check([forged, ...items.slice(1)], known))).toBe('alarm chain_forked')
    }
  })

  test('ORD-2: stream numbers that skip, repeat or run ahead', () => {
    expect(codeOf(check([withSeqs(at(0), 1, 2)]))).toBe('alarm stream_order_broken')
    expect(codeOf(check([at(0), withSeqs(at(1), 2, 1)]))).toBe('alarm stream_order_broken')
    expect(codeOf(check([at(0), withSeqs(at(1), 2, 3)]))).toBe('alarm stream_order_broken')
    expect(codeOf(check([withSeqs(at(0), 3, 4)]))).toBe('alarm stream_order_broken')
  })

  test('an own event, a foreign one, and bytes that are no event', async () => {
    const parts = { crypto, known: knowing(log.state), ownDeviceId: log.deviceId('manager') }
    expect(codeOf(checkEvents(parts, { events: [at(0)], through: 1 }))).toBe('alarm own_event')
    const stranger = await createPublishedLog()
    await stranger.publish('manager', 'a', { userId: new Uint8Array(32).fill(1) as UserId })
    expect(codeOf(check([stranger.items[0]!]))).toBe('alarm foreign_event')
    expect(codeOf(check([[1, 1, 1, at(0)[3].subarray(1)]]))).toBe('alarm malformed_event')
    const leaf = expire(at(0))
    for (const broken of [
      leaf.with(3, new Uint8Array(15)),
      leaf.with(5, MAX_TTL_S + 1),
      leaf.with(6, 5),
    ] as LeafItem[]) {
      expect(codeOf(check([broken]))).toBe('alarm malformed_event')
    }
  })

  test('ORD-1: events that no valid signature covers are found, from the first one on', async () => {
    const unprovedAfter = async (...signers: string[]) => {
      const signed = await createPublishedLog('reader')
      for (const signer of signers) await signed.publish('manager', 'a', {}, signer)
      await signed.publish('reader', 'b')
      const known = knowing(signed.state)
      const outcome = checkEvents(
        { crypto, known, ownDeviceId: undefined },
        { events: signed.items, through: signed.items.length },
      )
      if (outcome.type !== 'ok') throw new Error(codeOf(outcome))
      const { unproved } = outcome.batch
      return unproved.map(({ deviceId, fromSeq, userSeq }) => {
        expect(deviceId).toEqual(signed.deviceId('manager'))
        return { fromSeq, userSeq }
      })
    }
    expect(await unprovedAfter('manager', 'manager')).toEqual([])
    // A later signature proves what stands before it.
    expect(await unprovedAfter('reader', 'manager')).toEqual([])
    expect(await unprovedAfter('manager', 'reader')).toEqual([{ fromSeq: 2, userSeq: 2 }])
    expect(await unprovedAfter('reader', 'reader')).toEqual([{ fromSeq: 1, userSeq: 1 }])
    expect(await unprovedAfter('manager', 'reader', 'reader')).toEqual([{ fromSeq: 2, userSeq: 2 }])
  })

  test('ORD-1: a signature that the server exchanged breaks the chain at the next event', () => {
    const [userSeq, streamSeq, storedAtMs, wire] = at(0)
    const exchanged = wire.slice()
    exchanged[wire.length - 1]! ^= 1
    const forged: StoredEvent = [userSeq, streamSeq, storedAtMs, exchanged]
    expect(codeOf(check([forged, ...items.slice(1)]))).toBe('alarm chain_forked')
    expect(check([forged])).toMatchObject({ type: 'ok', batch: { unproved: [{ fromSeq: 1, userSeq: 1 }] } })
  })

  test('every flipped bit of an event', () => {
    const wire = at(0)[3]
    fc.assert(
      fc.property(fc.nat({ max: wire.length * 8 - 1 }), (bit) => {
        const changed = wire.slice()
        changed[bit >> 3]! ^= 1 << (bit & 7)
        const outcome = check([[1, 1, 1, changed]])
        if (outcome.type === 'ok') expect(outcome.batch.unproved).toHaveLength(1)
      }),
      { numRuns: 300 },
    )
  })
})

describe('an event without its bytes', () => {
  const STORED_AT_MS = 1_700_000_000_000
  const leafOf = (ttlS: number, flags = 0): LeafItem => expire(at(0)).with(5, ttlS).with(6, flags) as LeafItem
  const judged = (leaf: LeafItem, atMs: number | undefined, prunedThrough = 0): string => {
    const outcome = check([leaf], knowing(log.state, { prunedThrough }), 1, atMs)
    if (outcome.type !== 'ok') return codeOf(outcome)
    const { body } = outcome.batch.events[0]!
    return body.type === 'expired' ? body.excuse : body.type
  }

  test('RET-7: is excused by a lifetime that has ended by the time of the page, and no moment before', () => {
    expect(judged(leafOf(10), STORED_AT_MS + 10_000)).toBe('lifetime')
    expect(judged(leafOf(10), STORED_AT_MS + 9_999)).toBe('alarm bytes_withheld')
  })

  test('RET-7: without the time of a page no lifetime excuses it', () => {
    expect(judged(leafOf(10), undefined)).toBe('alarm bytes_withheld')
  })

  test('RET-7: without a lifetime it is excused by the range that was told, and only there', () => {
    expect(judged(leafOf(0), Number.MAX_SAFE_INTEGER)).toBe('alarm bytes_withheld')
    expect(judged(leafOf(0), undefined, 1)).toBe('pruned')
  })

  test('RET-7: of the client itself it has no lifetime to end, whatever its leaf says', () => {
    expect(judged(leafOf(10, 8), Number.MAX_SAFE_INTEGER)).toBe('alarm bytes_withheld')
    expect(judged(leafOf(0, 8), undefined, 1)).toBe('pruned')
  })

  test('RET-7: that is void needs the same excuse', async () => {
    const forged = await createPublishedLog('thief')
    const item = await forged.publish('thief', 'a')
    const deviceId = forged.deviceId('thief')
    const rest = activeDevices(forged.state).filter((device) => toHex(device.deviceId) !== toHex(deviceId))
    const records = rest.map(({ record }) => record)
    const epoch = await sealNextEpoch(crypto, forged.state, records, [
      { n: forged.state.epoch.n, secret: forged.account.epoch.secret },
    ])
    const cut = { devices: [{ deviceId, lastSeq: 0, chain: new Uint8Array(32) }], reason: 0, epoch: epoch.start }
    const entry = await buildRevoke(forged.state, authorOf(forged.account.manager), cut)
    const known = knowing(mustApply(forged.state, entry))
    const parts = { crypto, known, ownDeviceId: undefined }
    expect(codeOf(checkEvents(parts, { events: [expire(item)], through: 1 }))).toBe('alarm bytes_withheld')
  })
})

describe('an event of a newer form', () => {
  const changed = (offset: number, value: number): StoredEvent => {
    const wire = at(0)[3].slice()
    wire[offset] = value
    return [1, 1, 1, wire]
  }

  test('EVT-1: is no fault of anybody: this program must be updated', () => {
    expect(codeOf(check([changed(0, 2)]))).toBe('update_needed')
    for (const flags of [2, 16, 128]) expect(codeOf(check([changed(169, flags)]))).toBe('update_needed')
    expect(codeOf(check([expire(at(0)).with(6, 32) as LeafItem]))).toBe('update_needed')
    expect(codeOf(check([changed(0, 0)]))).toBe('alarm malformed_event')
  })
})

describe('the device log behind the events', () => {
  const rotated = async (state: DeviceLogState): Promise<DeviceLogState> => {
    const members = activeDevices(state).map(({ record }) => record)
    const epoch = await sealNextEpoch(crypto, state, members, [{ n: state.epoch.n, secret: log.account.epoch.secret }])
    return mustApply(state, await buildRotate(state, authorOf(log.account.manager), epoch.start))
  }

  test('DEV-1: an unknown device, and one that may not publish', async () => {
    expect(codeOf(check(items, knowing(log.account.state)))).toBe('log_behind')
    const early = await createPublishedLog('late')
    await early.publish('late', 'a', { logSeq: 0 })
    const known = knowing(early.account.state)
    const outcome = checkEvents({ crypto, known, ownDeviceId: undefined }, { events: early.items, through: 1 })
    expect(codeOf(outcome)).toBe('alarm unknown_device')
    early.keysByName.set('recovery', early.account.recovery)
    const byRecovery = await early.publish('recovery', 'b')
    const verdict = checkEvents(
      { crypto, known: knowing(early.state), ownDeviceId: undefined },
      { events: [withSeqs(byRecovery, 1, 1)], through: 1 },
    )
    expect(codeOf(verdict)).toBe('alarm unknown_device')
  })

  test('DEV-1: an event from before its device was there, and a log_seq that goes back', async () => {
    const wrong = await createPublishedLog('late')
    await wrong.publish('late', 'a', { logSeq: 0 })
    const parts = { crypto, known: knowing(wrong.state), ownDeviceId: undefined }
    expect(codeOf(checkEvents(parts, { events: wrong.items, through: 1 }))).toBe('alarm log_seq_invalid')
    const back = await createPublishedLog('other')
    await back.publish('manager', 'a', { logSeq: 1 })
    await back.publish('manager', 'a', { logSeq: 0 })
    const known = knowing(back.state)
    expect(codeOf(checkEvents({ ...parts, known }, { events: back.items, through: 2 }))).toBe('alarm log_seq_invalid')
  })

  test('EVT-4: an event that names another device log than this device has at the same entry', async () => {
    const split = await createPublishedLog('other')
    await split.publish('manager', 'a', { logHead: new Uint8Array(32).fill(9) })
    const parts = { crypto, known: knowing(split.state), ownDeviceId: undefined }
    expect(codeOf(checkEvents(parts, { events: split.items, through: 1 }))).toBe('alarm log_head_invalid')
  })

  test('DEV-2: an epoch that was not in force at the log_seq', async () => {
    const state = await rotated(log.state)
    const wrong = await createPublishedLog()
    await wrong.publish('manager', 'a', { epoch: 2 })
    const parts = { crypto, known: knowing(wrong.state), ownDeviceId: undefined }
    expect(codeOf(checkEvents(parts, { events: wrong.items, through: 1 }))).toBe('alarm epoch_invalid')
    expect(codeOf(check(items, knowing(state)))).toBe('ok')
    const late = await log.publish('writer', 'c', { logSeq: state.seq, logHead: state.head, epoch: 1 })
    expect(codeOf(check([...items.slice(0, 5), late], knowing(state)))).toBe('alarm epoch_invalid')
  })

  const cutAt = async (lastSeq: number, chain: Uint8Array): Promise<DeviceLogState> => {
    const members = activeDevices(log.state)
      .map(({ record }) => record)
      .filter(({ edPub }) => toHex(edPub) !== toHex(log.keysByName.get('writer')!.record.edPub))
    const epoch = await sealNextEpoch(crypto, log.state, members, [
      { n: log.state.epoch.n, secret: log.account.epoch.secret },
    ])
    const devices = [{ deviceId: log.deviceId('writer'), lastSeq, chain }]
    const parts = { devices, reason: 0, epoch: epoch.start }
    return mustApply(log.state, await buildRevoke(log.state, authorOf(log.account.manager), parts))
  }
  const chainsOfWriter = (): Uint8Array[] => {
    const whole = check(items.slice(0, 5))
    if (whole.type !== 'ok') throw new Error(codeOf(whole))
    return whole.batch.events
      .filter(({ deviceId }) => toHex(deviceId) === toHex(log.deviceId('writer')))
      .map(({ chain }) => chain)
  }
  const voidSeqs = (outcome: CheckOutcome): number[] => {
    if (outcome.type !== 'ok') throw new Error(codeOf(outcome))
    return outcome.batch.events.filter(({ isVoid }) => isVoid).map(({ userSeq }) => userSeq)
  }

  test('DEV-6: what a revoked device wrote up to its cut counts, and what it wrote beyond is void, without an alarm', async () => {
    const chains = chainsOfWriter()
    const five = items.slice(0, 5)
    expect(voidSeqs(check(five, knowing(await cutAt(2, chains[1]!))))).toEqual([])
    expect(voidSeqs(check(five, knowing(await cutAt(1, chains[0]!))))).toEqual([4])
    expect(voidSeqs(check(five, knowing(await cutAt(0, new Uint8Array(32)))))).toEqual([2, 4])
    expect(voidSeqs(check(five.map(expire), knowing(await cutAt(1, chains[0]!), { prunedThrough: 5 })))).toEqual([4])
    expect(check(five, knowing(await cutAt(1, chains[0]!)))).toMatchObject({ batch: { progress: { cursor: 5 } } })
  })

  test('DEV-6: a chain that does not pass through the cut is a fork', async () => {
    const chains = chainsOfWriter()
    expect(codeOf(check(items.slice(0, 5), knowing(await cutAt(2, chains[0]!))))).toBe('alarm chain_forked')
  })

  test('DEV-6: events up to the cut cannot be withheld behind a void one', async () => {
    const chains = chainsOfWriter()
    const withheld = [at(0), at(2), at(3)]
    expect(codeOf(check(withheld, knowing(await cutAt(1, chains[0]!))))).toBe('gap chain_gap')
  })

  test('DEV-6: nothing that a void event says of itself is believed or looked for', async () => {
    const forged = await createPublishedLog('thief')
    await forged.publish('thief', 'a')
    await forged.publish('thief', 'a', { logSeq: 900, epoch: 7 }, 'manager')
    await forged.publish('thief', 'a', { logSeq: 0 }, 'manager')
    await forged.publish('manager', 'a')
    const known = knowing(forged.state)
    const first = checkEvents(
      { crypto, known, ownDeviceId: undefined },
      { events: forged.items.slice(0, 1), through: 1 },
    )
    if (first.type !== 'ok') throw new Error(codeOf(first))
    const { deviceId, chain } = first.batch.events[0]!
    const members = activeDevices(forged.state).filter((device) => toHex(device.deviceId) !== toHex(deviceId))
    const records = members.map(({ record }) => record)
    const epoch = await sealNextEpoch(crypto, forged.state, records, [
      { n: forged.state.epoch.n, secret: forged.account.epoch.secret },
    ])
    const cut = { devices: [{ deviceId, lastSeq: 1, chain }], reason: 0, epoch: epoch.start }
    const revoke = await buildRevoke(forged.state, authorOf(forged.account.manager), cut)
    const after = knowing(mustApply(forged.state, revoke))
    const outcome = checkEvents({ crypto, known: after, ownDeviceId: undefined }, { events: forged.items, through: 4 })
    expect(voidSeqs(outcome)).toEqual([2, 3])
  })
})

test('no message makes a check throw', () => {
  const counter = fc.nat({ max: 20 })
  const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })
  const stored = fc.tuple(counter, counter, counter, fc.oneof(fc.uint8Array(), fc.constantFrom(...[0, 1, 2, 3, 4])))
  const leaf = fc.tuple(counter, counter, counter, bytes(16), counter, counter, fc.nat({ max: 255 }), bytes(32))
  fc.assert(
    fc.property(fc.array(fc.oneof(stored, leaf), { maxLength: 6 }), counter, (events, through) => {
      const message = events.map((event): StoredEvent | LeafItem =>
        event.length === 8
          ? event
          : [event[0], event[1], event[2], typeof event[3] === 'number' ? at(event[3])[3] : event[3]],
      )
      expect(['ok', 'gap', 'alarm', 'log_behind', 'update_needed']).toContain(
        check(message, knowing(log.state), through).type,
      )
    }),
    { numRuns: 500 },
  )
})
