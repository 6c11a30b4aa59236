// Key epochs: what a device accepts as the secret of an epoch, and every way in which it must raise an alarm.

import { buildAdd, findEpoch, KEM_X25519, signDevicePop, toUserId } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import fc from 'fast-check'
import { beforeAll, describe, expect, test } from 'vitest'
import { openBox, sealBox } from '../src/sealing/box.ts'
import { createDeviceKeys, restoreDeviceKeys } from '../src/sealing/device-keys.ts'
import { epochCommit, eventKey, openLink, sealLink, streamIdOf } from '../src/sealing/epoch.ts'
import { openLinkedEpoch, sealBoxForNewDevice } from '../src/sealing/epoch-boxes.ts'
import { type Account, authorOf, boxFor, createAccount, mustApply, openAs, rotate } from './support/sealed-account.ts'

const filled = (length: number, byte: number): Uint8Array => new Uint8Array(length).fill(byte)
const flip = (bytes: Uint8Array, at: number): Uint8Array => {
  const out = bytes.slice()
  out[at]! ^= 1
  return out
}

describe('key epochs', () => {
  let account: Account
  let rotated: Account
  beforeAll(async () => {
    account = await createAccount(KEM_X25519)
    rotated = await rotate(account)
  })

  test('DEV-1: the same secrets make the same device again', async () => {
    const { secrets, record, deviceId } = account.manager
    expect(await restoreDeviceKeys(crypto, secrets, 'manager')).toMatchObject({ record, deviceId })
    expect(record.kemPub).toHaveLength(1216)
    expect(account.recovery.record.kemPub).toHaveLength(32)
  })

  test('DEV-2: every member opens its box, under either KEM, in genesis and after', async () => {
    for (const { epoch, state, manager, recovery } of [account, rotated]) {
      for (const keys of [manager, recovery]) {
        expect(await openAs(keys, state, boxFor(epoch, keys))).toEqual({ ok: true, secret: epoch.secret })
      }
    }
  })

  test('DEV-2: a new device opens its box and, by the links, every epoch before', async () => {
    const { state, manager, epoch } = rotated
    const newcomer = await createDeviceKeys(crypto, 'member')
    const { box, boxHash } = await sealBoxForNewDevice(crypto, state, newcomer.record, epoch.secret)
    const proof = await signDevicePop(newcomer.signer, state.userId, newcomer.record)
    const entry = await buildAdd(state, authorOf(manager), { record: newcomer.record, boxHash, proof })
    const after = mustApply(state, entry)
    const opened = await openAs(newcomer, after, box)
    expect(opened).toEqual({ ok: true, secret: epoch.secret })
    const first = openLinkedEpoch(
      crypto,
      state.userId,
      after.epoch,
      findEpoch(after, 1)!,
      epoch.secret,
      epoch.links[0]!.box,
    )
    expect(first).toEqual({ ok: true, secret: account.epoch.secret })
    // A device that was there at genesis has no link to follow.
    expect(await openAs(newcomer, state, box)).toEqual({ ok: false, alarm: 'not_a_member' })
  })

  test('DEV-2: a box other than the one committed to raises an alarm', async () => {
    const { state, manager, epoch, recovery } = account
    const box = boxFor(epoch, manager)
    const alarm = 'box_hash_mismatch'
    expect(await openAs(manager, state, flip(box, box.length - 1))).toEqual({ ok: false, alarm })
    expect(await openAs(manager, state, boxFor(epoch, recovery))).toEqual({ ok: false, alarm })
    expect(await openAs(manager, state, new Uint8Array(0))).toEqual({ ok: false, alarm })
  })

  test('DEV-2: a box that was sealed for another place does not open', async () => {
    const { state, manager } = account
    const { kemId, kemPrivateKey: privateKey } = manager.secrets
    const place = { userId: state.userId, epochN: 3, deviceId: manager.deviceId, logHead: state.head }
    const secret = filled(32, 7)
    const box = await sealBox(crypto, manager.record, place, secret)
    expect(await openBox({ kemId, privateKey }, place, box)).toEqual(secret)
    expect(await openBox({ kemId, privateKey }, place, Uint8Array.of(...box, 0))).toBeUndefined()
    for (const other of [
      { ...place, userId: toUserId(filled(32, 1))! },
      { ...place, epochN: 4 },
      { ...place, deviceId: account.recovery.deviceId },
      { ...place, logHead: filled(32, 1) },
    ]) {
      expect(await openBox({ kemId, privateKey }, other, box)).toBeUndefined()
    }
  })

  test('DEV-16: a box is the same for the same secret and place, and no other', async () => {
    const { state, manager, recovery } = account
    const place = { userId: state.userId, epochN: 3, deviceId: manager.deviceId, logHead: state.head }
    const seal = (change: object, secret = filled(32, 7)) =>
      sealBox(crypto, manager.record, { ...place, ...change }, secret)
    const box = await seal({})
    expect(await seal({})).toEqual(box)
    const others = [
      await seal({ deviceId: recovery.deviceId }),
      await seal({ logHead: filled(32, 1) }),
      await seal({}, filled(32, 8)),
    ]
    // The encapsulated key, too: it is made of what is derived, not of chance alone.
    const encapsulated = [box, ...others].map((each) => each.slice(4, 1124).join())
    expect(new Set(encapsulated).size).toBe(4)
  })

  test('DEV-16: a device whose key takes no box has the same useless one from everybody', async () => {
    const { state, manager } = account
    const place = { userId: state.userId, epochN: 3, deviceId: manager.deviceId, logHead: state.head }
    for (const bad of [
      { ...manager.record, kemPub: filled(1216, 255) },
      { ...account.recovery.record, kemPub: filled(32, 0) },
    ]) {
      const box = await sealBox(crypto, bad, place, filled(32, 7))
      expect(box).toEqual(Uint8Array.of(0))
      const { kemId, kemPrivateKey: privateKey } = manager.secrets
      expect(await openBox({ kemId, privateKey }, place, box)).toBeUndefined()
    }
  })

  test('DEV-2: a committed box that does not open, or holds another secret, raises an alarm', async () => {
    const { state, manager, epoch } = account
    const { deviceId } = manager
    const commitTo = (box: Uint8Array) => ({
      ...state,
      epoch: {
        ...state.epoch,
        boxes: [{ deviceId, boxHash: crypto.sha256(concat('valise box\0', box)), logSeq: 1, logHead: state.head }],
      },
    })
    const concat = (text: string, bytes: Uint8Array) => Uint8Array.of(...new TextEncoder().encode(text), ...bytes)
    const damaged = flip(boxFor(epoch, manager), 1100)
    expect(await openAs(manager, commitTo(damaged), damaged)).toEqual({ ok: false, alarm: 'box_unopenable' })
    const place = { userId: state.userId, epochN: 1, deviceId, logHead: state.head }
    const wrong = await sealBox(crypto, manager.record, place, filled(32, 9))
    expect(await openAs(manager, commitTo(wrong), wrong)).toEqual({ ok: false, alarm: 'commit_mismatch' })
  })

  test('DEV-2: a link other than the one committed to raises an alarm', () => {
    const { state, epoch } = rotated
    const older = findEpoch(state, 1)
    const open = (secret: Uint8Array, prevBox: Uint8Array) =>
      openLinkedEpoch(crypto, state.userId, state.epoch, older!, secret, prevBox)
    expect(open(epoch.secret, flip(epoch.links[0]!.box, 0))).toEqual({ ok: false, alarm: 'box_hash_mismatch' })
    expect(open(filled(32, 1), epoch.links[0]!.box)).toEqual({ ok: false, alarm: 'box_unopenable' })
    const unlinked = { ...state.epoch, links: [] }
    expect(openLinkedEpoch(crypto, state.userId, unlinked, older!, epoch.secret, epoch.links[0]!.box)).toEqual({
      ok: false,
      alarm: 'not_linked',
    })
    const other = { ...older!, commit: filled(32, 1) }
    expect(openLinkedEpoch(crypto, state.userId, state.epoch, other, epoch.secret, epoch.links[0]!.box)).toEqual({
      ok: false,
      alarm: 'commit_mismatch',
    })
  })

  test('DEV-2: a link opens under its own epoch, user and secret only', () => {
    const userId = toUserId(filled(32, 1))!
    const place = { userId, n: 3, prevN: 1 }
    const box = sealLink(crypto, place, filled(32, 2), filled(32, 3))
    expect(box).toHaveLength(48)
    expect(openLink(crypto, place, filled(32, 2), box)).toEqual(filled(32, 3))
    for (const other of [{ n: 4 }, { prevN: 2 }, { userId: toUserId(filled(32, 4))! }]) {
      expect(openLink(crypto, { ...place, ...other }, filled(32, 2), box)).toBeUndefined()
    }
    expect(openLink(crypto, place, filled(32, 5), box)).toBeUndefined()
    const short = sealLink(crypto, place, filled(32, 2), filled(31, 3))
    expect(openLink(crypto, place, filled(32, 2), short)).toBeUndefined()
  })

  test('DEV-2: what is derived from a secret is apart by purpose, user and epoch', () => {
    const [alice, bob] = [toUserId(filled(32, 1))!, toUserId(filled(32, 2))!]
    const secret = filled(32, 3)
    const derived = [
      epochCommit(crypto, alice, 2, secret),
      epochCommit(crypto, bob, 2, secret),
      epochCommit(crypto, alice, 3, secret),
      eventKey(crypto, alice, 2, secret),
      eventKey(crypto, bob, 2, secret),
      eventKey(crypto, alice, 3, secret),
      streamIdOf(crypto, alice, secret, 'notes'),
      streamIdOf(crypto, bob, secret, 'notes'),
      streamIdOf(crypto, alice, secret, 'notes '),
    ]
    expect(new Set(derived.map((bytes) => bytes.join())).size).toBe(derived.length)
    // Genesis commits to epoch 1 before the user id is known.
    expect(epochCommit(crypto, alice, 1, secret)).toEqual(epochCommit(crypto, bob, 1, secret))
  })

  test('DEV-2: no bytes make a box throw', async () => {
    const { state, manager, recovery } = account
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 1300 }), fc.constantFrom(manager, recovery), async (bytes, keys) => {
        const { kemId, kemPrivateKey: privateKey } = keys.secrets
        const place = { userId: state.userId, epochN: 1, deviceId: keys.deviceId, logHead: state.head }
        expect(await openBox({ kemId, privateKey }, place, bytes)).toBeUndefined()
        const encBytes = kemId === KEM_X25519 ? 32 : 1120
        const box = Uint8Array.of(
          0,
          0,
          encBytes >> 8,
          encBytes & 255,
          ...filled(encBytes, bytes[0] ?? 0),
          0,
          0,
          0,
          48,
          ...filled(48, 1),
        )
        expect(await openBox({ kemId, privateKey }, place, box)).toBeUndefined()
      }),
      { numRuns: 30 },
    )
  })
})
