// An account as its first device makes it: device keys, genesis, epoch 1; and the entries that follow.

import {
  activeDevices,
  applyEntry,
  buildGenesis,
  buildRotate,
  type DeviceLogState,
  equalBytes,
  type KemId,
} from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { createDeviceKeys, type DeviceKeys } from '../../src/sealing/device-keys.ts'
import { openEpoch, type SealedEpoch, sealFirstEpoch, sealNextEpoch } from '../../src/sealing/epoch-boxes.ts'

export const timeMs = 1_700_000_000_000

export const authorOf = ({ signer, deviceId }: DeviceKeys) => ({ signer, deviceId, timeMs })

/** By state: the hash of each entry up to it. */
const headsByState = new WeakMap<DeviceLogState, readonly Uint8Array[]>()

/** The hash of an entry of the log that `mustApply` made. */
export const logHeadAt = (state: DeviceLogState, seq: number): Uint8Array | undefined => headsByState.get(state)?.[seq]

export function mustApply(state: DeviceLogState | undefined, entry: Uint8Array): DeviceLogState {
  const applied = applyEntry(crypto, state, entry)
  if (!applied.ok) throw new Error(`the entry was refused: ${applied.rule}`)
  headsByState.set(applied.state, [...((state && headsByState.get(state)) ?? []), applied.state.head])
  return applied.state
}

export interface Account {
  readonly manager: DeviceKeys
  readonly recovery: DeviceKeys
  readonly epoch: SealedEpoch
  readonly state: DeviceLogState
}

export async function createAccount(recoveryKemId?: KemId): Promise<Account> {
  const manager = await createDeviceKeys(crypto, 'manager')
  const recovery = await createDeviceKeys(crypto, 'recovery', recoveryKemId)
  const epoch = await sealFirstEpoch(crypto, [manager.record, recovery.record])
  const genesis = await buildGenesis(crypto, {
    signer: manager.signer,
    timeMs,
    nonce: crypto.randomBytes(32),
    manager: manager.record,
    recovery: { record: recovery.record, signer: recovery.signer },
    epoch: epoch.start,
  })
  return { manager, recovery, epoch, state: mustApply(undefined, genesis) }
}

/** The next epoch over all active devices, signed by the manager. */
export async function rotate(account: Account): Promise<Account> {
  const { state, manager } = account
  const members = activeDevices(state).map(({ record }) => record)
  const epoch = await sealNextEpoch(crypto, state, members, account.epoch.secret)
  return { ...account, epoch, state: mustApply(state, await buildRotate(state, authorOf(manager), epoch.start)) }
}

export function boxFor(epoch: SealedEpoch, { deviceId }: DeviceKeys): Uint8Array {
  const addressed = epoch.boxes.find((box) => equalBytes(box.deviceId, deviceId))
  if (addressed === undefined) throw new Error('the epoch has no box for the device')
  return addressed.box
}

export const openAs = (keys: DeviceKeys, state: DeviceLogState, box: Uint8Array) => {
  const { deviceId, secrets } = keys
  return openEpoch(crypto, state.userId, state.epoch, { deviceId, ...secrets }, box)
}
