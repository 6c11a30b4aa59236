// The cast of the model and its moves as real entries, signed with real keys: what the reference says in words, in bytes.

import {
  type DeviceLogState,
  deviceIdOf,
  entryHash,
  findRecovery,
  keyHolders,
  type Signer,
  toHex,
} from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { signClose, signDevicePop, signRecoveryHeir } from '../../src/device-log/build.ts'
import type { Operation } from '../../src/device-log/operation.ts'
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
import { unreachedIn } from './knowledge.ts'
import type { Asked, Members, Move, PhraseProof, Role, World } from './reference.ts'

/** The first manager, two further devices, the phrase and two that replace it, and a device of the attacker's own. */
export const NAMES = ['first', 'second', 'third', 'phrase', 'phrase2', 'phrase3', 'attacker'] as const

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

export const openingWorld = (): World => ({
  devices: new Map([
    ['first', { role: 'manager', status: 'active' }],
    ['phrase', { role: 'recovery', status: 'active' }],
  ] as const),
  isClosed: false,
})

export async function openingPlace(): Promise<Place> {
  const entry = await craftGenesis(deviceOf('first', 'manager'), deviceOf('phrase', 'recovery'))
  return { world: openingWorld(), state: mustApply(undefined, entry), entries: [entry] }
}

/** Linked so that its secret opens every epoch before, or to none. */
function epochOf(state: DeviceLogState, after: readonly TestDevice[], members: Members, links?: 'none') {
  const list: { deviceId: TestDevice['deviceId'] }[] = [...after]
  if (members === 'one_less') list.pop()
  if (members === 'one_more') {
    const outside = NAMES.map((name) => deviceOf(name)).find(
      (device) => !after.some(({ deviceId }) => toHex(deviceId) === toHex(device.deviceId)),
    )
    list.push(outside ?? deviceOf('attacker'))
  }
  return createTestEpoch(state.epoch.n + 1, list, links === 'none' ? [] : unreachedIn(state))
}

const recoveryNameIn = (state: DeviceLogState): string[] => {
  const recovery = findRecovery(state)
  return recovery === undefined ? [] : [nameOf(recovery.deviceId)]
}

/** Those that hold the key in the state, without some, in the test's own type. */
const remaining = (state: DeviceLogState, gone: readonly string[]): TestDevice[] =>
  keyHolders(state)
    .map(({ deviceId }) => nameOf(deviceId))
    .filter((name) => !gone.includes(name))
    .map((name) => deviceOf(name))

/** The cut of a suspension, which its revocation repeats. */
const CUT = { lastSeq: 7, chain: sha256('cut') }
const OTHER_CUT = { lastSeq: 7, chain: sha256('another cut') }

/** The hash of what is pending, or of the newest entry that is not: it never waited, or what it asked for fell. */
function hashOf({ state, entries }: Pick<Place, 'state' | 'entries'>, asked: Asked): Uint8Array {
  const pending = [state.pendingRecovery?.hash, state.pendingClose?.hash]
  if (asked !== 'fallen') return pending[asked === 'recovery' ? 0 : 1] ?? new Uint8Array(32)
  const hashes = entries.map((entry) => entryHash(crypto, entry)).reverse()
  const isPending = (hash: Uint8Array): boolean =>
    pending.some((one) => one !== undefined && toHex(one) === toHex(hash))
  return hashes.find((hash) => !isPending(hash)) ?? new Uint8Array(32)
}

/** Without a recovery device, one that was revoked or never there signs: the proof holds nowhere. */
function signerOfProof(state: DeviceLogState, proof: Exclude<PhraseProof, 'none'>): Signer {
  const [recovery = 'attacker'] = recoveryNameIn(state)
  return deviceOf(proof === 'phrase' ? recovery : 'attacker').signer
}

async function operationOf(place: Pick<Place, 'state' | 'entries'>, move: Move): Promise<Operation> {
  const { state } = place
  switch (move.type) {
    case 'add':
      return addOf(state, deviceOf(move.name, move.role))
    case 'revoke':
      return {
        type: 'revoke',
        devices: move.names.map((name) => ({
          deviceId: deviceOf(name).deviceId,
          ...(move.cut === 'other' ? OTHER_CUT : CUT),
        })),
        reason: 1,
        epoch: epochOf(state, remaining(state, move.names), move.members),
      }
    case 'rotate':
      return { type: 'rotate', epoch: epochOf(state, remaining(state, []), move.members, move.links) }
    case 'recovery': {
      const { record } = deviceOf(move.name, move.role)
      const after = [...remaining(state, recoveryNameIn(state)), deviceOf(move.name)]
      const epoch = move.form === 'final' ? epochOf(state, after, move.members) : undefined
      const heirProof =
        move.proof === 'none'
          ? new Uint8Array(0)
          : await signRecoveryHeir(signerOfProof(state, move.proof), state.userId, record)
      return { type: 'recovery', record, heirProof, epoch }
    }
    case 'role':
      return { type: 'role', deviceId: deviceOf(move.name).deviceId, role: move.role }
    case 'close':
      return {
        type: 'close',
        phraseProof:
          move.proof === 'none' ? new Uint8Array(0) : await signClose(signerOfProof(state, move.proof), state),
      }
    case 'suspend':
      return { type: 'suspend', device: { deviceId: deviceOf(move.name).deviceId, ...CUT } }
    case 'settle': {
      const pending =
        state.pendingRecovery === undefined ? [] : [deviceOf(nameOf(deviceIdOf(crypto, state.pendingRecovery.record)))]
      const after = [...remaining(state, recoveryNameIn(state)), ...pending]
      return { type: 'settle', hash: hashOf(place, move.of), epoch: epochOf(state, after, move.members) }
    }
    case 'cancel':
      return { type: 'cancel', hash: hashOf(place, move.of) }
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

/** The move as an entry in `signer`'s name, signed with the key of `holder`: its own, unless it is a forgery. */
export async function craftMove(
  place: Pick<Place, 'state' | 'entries'>,
  signer: string,
  move: Move,
  holder = signer,
): Promise<Uint8Array> {
  const { state } = place
  const by = deviceOf(signer)
  const operation = await operationOf(place, move)
  const key = deviceOf(holder).signer
  return craftEntry({ state, by, operation, signer: key, proof: await proofOf(state, key, move) })
}
