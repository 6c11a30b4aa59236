// The server's own bounds of a device log, as arithmetic: what is kept back when the log is full, and what 24 hours allow.

import { chainStart, type DeviceState, type Operation, toUserId } from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { describe, expect, test } from 'vitest'
import {
  addOf,
  craftEntry,
  createTestDevice,
  createTestEpoch,
  createTestLog,
} from '../../protocol/tests/support/test-log.ts'
import { claimsToSave, isCounted, isTrueCut, maxEntriesFor, msUntilAllowed } from '../src/devices/entry-rules.ts'

const log = await createTestLog()
const { state } = log
const deviceOf = (role: 'manager' | 'recovery'): DeviceState => {
  const { record, deviceId } = role === 'manager' ? log.manager : log.recovery
  return { record, deviceId, addedSeq: 0, status: { type: 'active' } }
}
const hash = new Uint8Array(32)
const device = { deviceId: log.member.deviceId, lastSeq: 0, chain: hash }
const epoch = createTestEpoch(2, [])
const recovery = (heirProof: Uint8Array): Operation => ({
  type: 'recovery',
  record: log.recovery.record,
  heirProof,
  epoch,
})
const operations: Record<string, Operation> = {
  rotate: { type: 'rotate', epoch },
  settle: { type: 'settle', hash, epoch },
  'close, pending': { type: 'close', phraseProof: new Uint8Array(0) },
  'recovery without the phrase': recovery(new Uint8Array(0)),
  'recovery with the phrase': recovery(new Uint8Array(64)),
  revoke: { type: 'revoke', devices: [device], reason: 0, epoch },
  suspend: { type: 'suspend', device },
  cancel: { type: 'cancel', hash },
}

describe('what an entry says of itself', () => {
  test('LIM-26: it saves an account, or may wait, by its operation alone', async () => {
    const all: Record<string, Operation> = {
      ...operations,
      add: addOf(state, createTestDevice('another', 'member')),
      role: { type: 'role', deviceId: log.member.deviceId, role: 'manager' },
    }
    const saving: string[] = []
    for (const [name, operation] of Object.entries(all)) {
      // Nothing is verified, so a stranger's signature changes nothing.
      const entry = await craftEntry({ state, by: createTestDevice('stranger', 'manager'), operation })
      if (claimsToSave(entry)) saving.push(name)
    }
    expect(saving.sort()).toEqual([
      'cancel',
      'close, pending',
      'recovery with the phrase',
      'revoke',
      'settle',
      'suspend',
    ])
  })

  test('LIM-26: bytes that are no entry may wait', () => {
    for (const length of [0, 1, 150, 20_000]) expect(claimsToSave(new Uint8Array(length))).toBe(false)
  })
})

describe('the bounds of a device log', () => {
  test.each([
    ['rotate', 10_000, true],
    ['settle', 10_000, true],
    ['close, pending', 10_000, true],
    ['recovery without the phrase', 10_000, true],
    ['revoke', 10_110, false],
    ['suspend', 10_110, false],
    ['cancel', 10_110, false],
    ['recovery with the phrase', 10_160, false],
  ] as const)('DEV-15, P5: %s by a manager has %i entries; counted in its day: %s', (name, entries, counts) => {
    const entry = { operation: operations[name]!, signer: deviceOf('manager'), after: state }
    expect(maxEntriesFor(entry, 10_000)).toBe(entries)
    expect(isCounted(entry)).toBe(counts)
  })

  test('DEV-15, P5: the recovery device has 50 entries more than a thief can use up, and no day', () => {
    for (const operation of Object.values(operations)) {
      const entry = { operation, signer: deviceOf('recovery'), after: state }
      expect(maxEntriesFor(entry, 10_000)).toBe(10_160)
      expect(isCounted(entry)).toBe(false)
    }
  })

  test('DEV-15, P6: an account can end whatever its log holds', () => {
    const operation = operations['close, pending']!
    const entry = { operation, signer: deviceOf('manager'), after: { ...state, isClosed: true } }
    expect(maxEntriesFor(entry, 10_000)).toBe(Number.POSITIVE_INFINITY)
    expect(isCounted(entry)).toBe(false)
  })

  test('DEV-15: 100 entries of one device and 200 of all in 24 hours, and the time when the next may come', () => {
    const counted = (own: number, others: number) =>
      [...Array(own).fill(true), ...Array(others).fill(false)].map((isOwn, i) => ({ isOwn, leftMs: 5000 - i + 0.5 }))
    expect(msUntilAllowed(counted(99, 100))).toBeUndefined()
    expect(msUntilAllowed(counted(100, 0))).toBe(5000 - 99 + 1)
    expect(msUntilAllowed(counted(99, 101))).toBe(5000 - 199 + 1)
    expect(msUntilAllowed(counted(0, 199))).toBeUndefined()
  })

  test('DEV-15: a cut is true when the rows have its chain, or have nothing left to compare', () => {
    const userId = toUserId(hash)!
    const first = chainStart(nodeCrypto, userId, device.deviceId)
    const other = new Uint8Array(32).fill(1)
    expect(isTrueCut(nodeCrypto, userId, { ...device, chain: first }, undefined)).toBe(true)
    expect(isTrueCut(nodeCrypto, userId, { ...device, chain: other }, other)).toBe(false)
    const later = { ...device, lastSeq: 3, chain: other }
    expect(isTrueCut(nodeCrypto, userId, later, other)).toBe(true)
    expect(isTrueCut(nodeCrypto, userId, later, first)).toBe(false)
    expect(isTrueCut(nodeCrypto, userId, later, undefined)).toBe(false)
    expect(isTrueCut(nodeCrypto, userId, later, 'gone')).toBe(true)
  })
})
