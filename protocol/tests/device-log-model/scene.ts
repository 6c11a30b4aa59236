// The cast of the model and its moves as real entries, signed with real keys: what the reference says in words, in bytes.

import { type DeviceLogState, type Signer, toHex } from '@valise/protocol'
import { signDevicePop } from '../../src/device-log/build.ts'
import type { Operation } from '../../src/device-log/operation.ts'
import { activeDevices } from '../../src/device-log/state.ts'
import {
  addOf,
  craftEntry,
  craftGenesis,
  createTestDevice,
  createTestEpoch,
  mustApply,
  sha256,
  type TestDevice,
} from '../support/test-log.ts'
import type { Members, Move, Role, World } from './reference.ts'

/** The first manager, two further devices, the phrase and the one after it, and a device of the attacker's own. */
export const NAMES = ['first', 'second', 'third', 'phrase', 'phrase2', 'attacker'] as const

const deviceByName = new Map<string, TestDevice>(NAMES.map((name) => [name, createTestDevice(name, 'member')]))

/** Its id stays when its role changes: the id is made of keys alone. */
export function deviceOf(name: string, role: Role = 'member'): TestDevice {
  const device = deviceByName.get(name)
  if (device === undefined) throw new RangeError(`nobody is called ${name}`)
  return { ...device, record: { ...device.record, role } }
}

const nameById = new Map(NAMES.map((name): [string, string] => [toHex(deviceOf(name).deviceId), name]))
export const nameOf = (deviceId: Uint8Array): string => nameById.get(toHex(deviceId)) ?? 'nobody'

/** A place in some history of the log. */
export interface Place {
  readonly world: World
  readonly state: DeviceLogState
  /** From genesis. */
  readonly entries: readonly Uint8Array[]
}

export async function openingPlace(): Promise<Place> {
  const entry = await craftGenesis(deviceOf('first', 'manager'), deviceOf('phrase', 'recovery'))
  const devices = new Map([
    ['first', { role: 'manager', isActive: true }],
    ['phrase', { role: 'recovery', isActive: true }],
  ] as const)
  return { world: { devices, isClosed: false }, state: mustApply(undefined, entry), entries: [entry] }
}

function epochOf(state: DeviceLogState, after: readonly TestDevice[], members: Members) {
  const list: { deviceId: TestDevice['deviceId'] }[] = [...after]
  if (members === 'one_less') list.pop()
  if (members === 'one_more') {
    const outside = NAMES.map((name) => deviceOf(name)).find(
      (device) => !after.some(({ deviceId }) => toHex(deviceId) === toHex(device.deviceId)),
    )
    list.push(outside ?? deviceOf('attacker'))
  }
  return createTestEpoch(state.epoch.n + 1, list)
}

/** Those active in the state, without some, in the test's own type. */
const remaining = (state: DeviceLogState, gone: readonly string[]): TestDevice[] =>
  activeDevices(state)
    .map(({ deviceId }) => nameOf(deviceId))
    .filter((name) => !gone.includes(name))
    .map((name) => deviceOf(name))

function operationOf(state: DeviceLogState, move: Move): Operation {
  switch (move.type) {
    case 'add':
      return addOf(state, deviceOf(move.name, move.role))
    case 'revoke':
      return {
        type: 'revoke',
        devices: move.names.map((name) => ({ deviceId: deviceOf(name).deviceId, lastSeq: 7, chain: sha256('cut') })),
        reason: 1,
        epoch: epochOf(state, remaining(state, move.names), move.members),
      }
    case 'rotate':
      return { type: 'rotate', epoch: epochOf(state, remaining(state, []), move.members) }
    case 'recovery': {
      const replaced = activeDevices(state).filter(({ record }) => record.role === 'recovery')
      const after = remaining(
        state,
        replaced.map(({ deviceId }) => nameOf(deviceId)),
      )
      const epoch = epochOf(state, [...after, deviceOf(move.name)], move.members)
      return { type: 'recovery', record: deviceOf(move.name, move.role).record, epoch }
    }
    case 'role':
      return { type: 'role', deviceId: deviceOf(move.name).deviceId, role: move.role }
    case 'close':
      return { type: 'close' }
  }
}

async function proofOf(state: DeviceLogState, signer: Signer, move: Move): Promise<Uint8Array> {
  if (move.type === 'recovery') {
    const device = deviceOf(move.name, move.role)
    return signDevicePop(device.signer, state.userId, device.record)
  }
  if (move.type !== 'add' || move.proof === 'none') return new Uint8Array(0)
  const device = deviceOf(move.name, move.role)
  return signDevicePop(move.proof === 'own' ? device.signer : signer, state.userId, device.record)
}

/** The move as an entry in `signer`'s name, signed with the key of `holder`: his own, unless it is a forgery. */
export async function craftMove(
  state: DeviceLogState,
  signer: string,
  move: Move,
  holder = signer,
): Promise<Uint8Array> {
  const by = deviceOf(signer)
  const operation = operationOf(state, move)
  const key = deviceOf(holder).signer
  return craftEntry({ state, by, operation, signer: key, proof: await proofOf(state, key, move) })
}
