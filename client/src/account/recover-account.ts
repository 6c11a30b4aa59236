// Recovers an account with its phrase, on a device that has nothing else (PROTOCOL G): shows a person what the phrase opens,
// signs this device in as a manager, and remembers that the rest, revoking and a new phrase, is still to be done. Each
// step is stored before the next begins, so that an interrupted recovery goes on where it stood.

import {
  type DeviceId,
  type DeviceLogState,
  type DeviceRole,
  encodeUtf8,
  isSameId,
  keyHolders,
  signDevicePop,
  type UserId,
} from '@valise/protocol'
import { AlarmError } from '../alarm.ts'
import { createDeviceKeys, type DeviceKeys } from '../sealing/device-keys.ts'
import { storeKeys } from '../store/layout.ts'
import { del, put, type Store } from '../store/store.ts'
import { addDevice } from './add-device.ts'
import { formatDeviceFingerprint } from './fingerprint.ts'
import { forgetAccount } from './forget-account.ts'
import { type Identity, loadIdentity, type ServerPin, saveIdentity } from './identity.ts'
import { isSameKey } from './key-chain.ts'
import { type RecoverySessionParts, withRecoverySession } from './recovery-session.ts'
import { userIdStart } from './recovery-sheet.ts'

/** A device of the account that a phrase opens, as far as the device log tells: names come later. */
export interface RecoveredDevice {
  readonly deviceId: DeviceId
  readonly role: DeviceRole
  readonly deviceFingerprint: string
  /** Unix milliseconds by the clock of the device that signed it in. */
  readonly addedAtMs: number
}

export interface RecoverableAccount {
  readonly userId: UserId
  readonly userIdStart: string
  readonly createdAtMs: number
  /** Active and suspended ones, the recovery device not among them. */
  readonly devices: readonly RecoveredDevice[]
}

export interface RecoverParts extends RecoverySessionParts {
  readonly store: Store
}

export interface Recovering {
  readonly server: ServerPin
  /** Made of the phrase. */
  readonly recovery: DeviceKeys
  readonly name: string
  readonly platform: string
  /** Asked before anything is signed. */
  confirm(account: RecoverableAccount): Promise<boolean>
  readonly signal: AbortSignal | undefined
}

/** What a recovery has still to do on a device that is signed in. */
export type RecoveryStage = 'revoke' | 'phrase'

/** `undefined` when the person declined. Rejects with a `SetupError` or `ClientStoppedError`. */
export async function recoverAccount(parts: RecoverParts, recovering: Recovering): Promise<Identity | undefined> {
  const { store, sealer, crypto } = parts
  const { recovery, name, platform, signal } = recovering
  return withRecoverySession(
    parts,
    { server: recovering.server, keys: recovery, signal },
    async ({ manager, ask, server, savingLog }) => {
      const { book } = manager
      const { userId } = book.require()
      const earlier = await findEarlier(parts, server, userId)
      if (earlier === undefined && !(await recovering.confirm(describeAccount(book)))) return undefined
      const identity = earlier ?? (await createIdentity())
      const { record } = identity.keys
      const proof = await signDevicePop(identity.keys.signer, userId, record)
      await addDevice(manager, ask, { record, proof })
      await store.batch([
        saveIdentity(sealer, identity),
        saveStage('revoke'),
        del(storeKeys.joining),
        del(storeKeys.serverPin),
        // Without it the device would not know its own role until the server shows the log again.
        ...(await savingLog()),
      ])
      return identity

      async function createIdentity(): Promise<Identity> {
        await forgetAccount(store)
        const keys = await createDeviceKeys(crypto, 'manager')
        const created = { userId, deviceId: keys.deviceId, keys, name, platform, server }
        // Its keys must survive from here on: an answer that is lost leaves a device in the log.
        await store.batch([saveIdentity(sealer, created, storeKeys.joining), saveStage('revoke')])
        return created
      }
    },
  )
}

/** This device as an interrupted recovery of the same account made it, in the log or not. */
async function findEarlier(
  { store, sealer, crypto }: RecoverParts,
  server: ServerPin,
  userId: UserId,
): Promise<Identity | undefined> {
  if ((await loadRecoveryStage(store)) === undefined) return undefined
  const identity = await loadIdentity(crypto, store, sealer, storeKeys.joining)
  if (identity === undefined || !isSameId(identity.userId, userId)) return undefined
  if (identity.server.url !== server.url && !isSameKey(identity.server, server)) return undefined
  const { keys } = identity
  return { ...identity, server, keys: { ...keys, record: { ...keys.record, role: 'manager' } } }
}

function describeAccount(book: {
  require(): Pick<DeviceLogState, 'userId' | 'devices'>
  factsAt(seq: number): { readonly timeMs: number } | undefined
}): RecoverableAccount {
  const log = book.require()
  const { userId } = log
  const timeOf = (seq: number): number => book.factsAt(seq)?.timeMs ?? 0
  return {
    userId,
    userIdStart: userIdStart(userId),
    createdAtMs: timeOf(0),
    devices: keyHolders(log)
      .filter((device) => device.record.role !== 'recovery')
      .sort((a, b) => a.addedSeq - b.addedSeq)
      .map(({ deviceId, record, addedSeq }) => ({
        deviceId,
        role: record.role,
        deviceFingerprint: formatDeviceFingerprint(deviceId),
        addedAtMs: timeOf(addedSeq),
      })),
  }
}

const saveStage = (stage: RecoveryStage) => put(storeKeys.recovering, encodeUtf8(stage))

export async function loadRecoveryStage(store: Store): Promise<RecoveryStage | undefined> {
  const stored = await store.get(storeKeys.recovering)
  if (stored === undefined) return undefined
  const stage = new TextDecoder().decode(stored)
  if (stage === 'revoke' || stage === 'phrase') return stage
  throw new AlarmError('store_damaged', { record: storeKeys.recovering })
}

/** The stage that follows, or the end. */
export const noteRecoveryStage = (store: Store, next: RecoveryStage | undefined): Promise<void> =>
  store.batch([next === undefined ? del(storeKeys.recovering) : saveStage(next)])
