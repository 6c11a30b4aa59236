// What a person does with his account on a device that belongs to it: revoke, rotate, rename, change a role, look after the
// recovery phrase, and finish a recovery.

import { type Crypto, findDevice, findRecovery, isSameId } from '@valise/protocol'
import { AccountError, NOT_A_MANAGER } from '../account/account-error.ts'
import { proveHeir, type RecoveryOutcome } from '../account/change-recovery.ts'
import { type DeviceSummary, listDevices } from '../account/directory.ts'
import { type Identity, saveIdentity } from '../account/identity.ts'
import type { RevokeReason } from '../account/manage-devices.ts'
import type { PendingKind } from '../account/pending.ts'
import { pickDevice } from '../account/pick-device.ts'
import { loadRecoveryStage, noteRecoveryStage, type RecoveryStage } from '../account/recover-account.ts'
import {
  createRecoverySheet,
  describeVerdict,
  judgePhrase,
  type PhraseVerdict,
  type RecoverySheet,
  toRecoveryKeys,
} from '../account/recovery-sheet.ts'
import { SetupError } from '../account/setup-error.ts'
import type { Client } from '../client.ts'
import type { DeviceKeys } from '../sealing/device-keys.ts'
import { createRecoveryEntropy, createRecoveryKeys, formatRecoveryPhrase } from '../sealing/recovery.ts'
import type { AtRestSealer } from '../store/at-rest.ts'
import type { Store } from '../store/store.ts'
import { reachServer } from './reach-server.ts'

export interface AccountActions {
  /** As the server has them now. Rejects with a `SetupError` when it does not answer in time. */
  currentDevices(signal?: AbortSignal): Promise<DeviceSummary[]>
  /** The device, active or suspended, that a name, an id or the beginning of a fingerprint means. Throws an `AccountError`. */
  pickDevice(devices: readonly DeviceSummary[], text: string): DeviceSummary
  /** One entry for all; false when they were revoked before. What this device still had to send is sent first. */
  revoke(devices: readonly DeviceSummary[], reason: RevokeReason, signal?: AbortSignal): Promise<boolean>
  /** The number of the key epoch that began. */
  rotate(signal?: AbortSignal): Promise<number>
  changeRole(device: DeviceSummary, role: 'manager' | 'member', signal?: AbortSignal): Promise<boolean>
  /** At once on this device; true when the others' server has it too. */
  rename(name: string, signal?: AbortSignal): Promise<boolean>
  /** Offline: what a written phrase is to this account. Throws a `SetupError` for one that is none. */
  testRecovery(phrase: string): Promise<PhraseVerdict>
  /** By the log that this device holds: there is a phrase that recovers the account. */
  hasPhrase(): boolean
  /**
   * Makes a new phrase and, once `confirm` has shown it, puts it in the place of the old one: at once when the old one is
   * given, else after seven days. Undefined when declined. Throws a `SetupError` for an old phrase that is not the account's.
   */
  renewRecovery(options: RenewOptions, signal?: AbortSignal): Promise<RecoveryOutcome | undefined>
  /** Puts the phrase that waits in the place of the old one. */
  settleRecovery(signal?: AbortSignal): Promise<void>
  /** Drops what waits. False when nothing does. */
  cancelPending(kind: PendingKind, signal?: AbortSignal): Promise<boolean>
  /** What a recovery that was interrupted, or has just begun, has still to do. */
  recoveryStage(): Promise<RecoveryStage | undefined>
  /**
   * Revokes the lost devices, or starts a new epoch when none is lost. False when nothing was left to do: an interrupted
   * recovery had done it.
   */
  recoverKeys(lost: readonly DeviceSummary[], signal?: AbortSignal): Promise<boolean>
  /** By the log as the server has it: the phrase that is good now was made on this device. */
  hasRenewedPhrase(signal?: AbortSignal): Promise<boolean>
  endRecovery(): Promise<void>
}

export interface RenewOptions {
  /** Asked only of a manager of an account that has a phrase; undefined: not to be asked. */
  readonly oldPhrase: (() => Promise<string>) | undefined
  /** Shows the new one; true when somebody has it. */
  confirm(sheet: RecoverySheet): Promise<boolean>
}

export interface AccountActionsParts {
  readonly store: Store
  readonly sealer: AtRestSealer
  readonly crypto: Crypto
  /** Throws a `SetupError` before there is an account. */
  require(): { readonly identity: Identity; readonly client: Client }
  adopt(identity: Identity): void
  checkName(name: string): string
}

/** What is on its way out when a device revokes itself, or takes another name. */
const FLUSH_TIMEOUT_MS = 10_000

export function createAccountActions(parts: AccountActionsParts): AccountActions {
  const { store, sealer, crypto } = parts

  /** By the log as the server has it: the role may have changed since this device was last online. */
  const requireManager = async (signal: AbortSignal | undefined): Promise<Client> => {
    const { client, identity } = parts.require()
    await reachServer(client, signal, client.whenReady)
    if (findDevice(client.device.book.require(), identity.deviceId)?.record.role !== 'manager') {
      throw new AccountError('not_a_manager', NOT_A_MANAGER)
    }
    return client
  }
  /** The keys of the phrase that recovers the account now. */
  const requirePhrase = async ({ device }: Client, phrase: string): Promise<DeviceKeys> => {
    const keys = await toRecoveryKeys(crypto, phrase)
    const verdict = judgePhrase(device.book.require(), keys)
    if (verdict === 'valid') return keys
    throw new SetupError('bad_phrase', describeVerdict(verdict))
  }
  const flushed = (client: Client, signal: AbortSignal | undefined): Promise<boolean> =>
    reachServer(client, signal, client.flush, FLUSH_TIMEOUT_MS).then(
      () => true,
      (error: unknown) => {
        if (error instanceof SetupError && error.code === 'server_unreachable') return false
        throw error
      },
    )

  const revoke: AccountActions['revoke'] = async (devices, reason, signal) => {
    const client = await requireManager(signal)
    if (devices.some(({ isThisDevice }) => isThisDevice)) await flushed(client, signal)
    const revocation = { deviceIds: devices.map(({ deviceId }) => deviceId), reason }
    return reachServer(client, signal, (waiting) => client.revokeDevices(revocation, waiting))
  }
  /** A key epoch has begun since this device was signed in. */
  const hasNewKeys = ({ device }: Client): boolean => {
    const log = device.book.require()
    const own = findDevice(log, device.identity.deviceId)
    return own !== undefined && log.epoch.logSeq > own.addedSeq
  }
  const rotate: AccountActions['rotate'] = async (signal) => {
    const client = await requireManager(signal)
    return reachServer(client, signal, client.rotateEpoch)
  }

  return {
    currentDevices: async (signal) => {
      const { client, identity } = parts.require()
      await reachServer(client, signal, client.whenLive)
      return listDevices(client.device, identity)
    },
    pickDevice,
    revoke,
    rotate,
    changeRole: async (device, role, signal) => {
      const client = await requireManager(signal)
      const change = { deviceId: device.deviceId, role }
      return reachServer(client, signal, (waiting) => client.changeRole(change, waiting))
    },
    rename: async (name, signal) => {
      const { client, identity } = parts.require()
      const renamed = { ...identity, name: parts.checkName(name) }
      // The others first: what is in the outbox gets to them, whatever happens here.
      await client.publishProfile(renamed)
      await store.batch([saveIdentity(sealer, renamed)])
      parts.adopt(renamed)
      return flushed(client, signal)
    },
    testRecovery: async (phrase) => {
      const log = parts.require().client.device.book.require()
      return judgePhrase(log, await toRecoveryKeys(crypto, phrase))
    },
    hasPhrase: () => findRecovery(parts.require().client.device.book.require()) !== undefined,
    renewRecovery: async ({ oldPhrase, confirm }, signal) => {
      const client = await requireManager(signal)
      const isAsked = oldPhrase !== undefined && findRecovery(client.device.book.require()) !== undefined
      const old = isAsked ? await requirePhrase(client, await oldPhrase()) : undefined
      const entropy = createRecoveryEntropy(crypto)
      const { server, userId } = parts.require().identity
      const sheet = createRecoverySheet(formatRecoveryPhrase(entropy), server, userId)
      const keys = await createRecoveryKeys(crypto, entropy)
      entropy.fill(0)
      const heirProof = old && (await proveHeir(old, userId, keys))
      const isConfirmed = await confirm(sheet).catch((error: unknown) => {
        heirProof?.fill(0)
        throw error
      })
      // Until it is confirmed the phrase before it stays good, and nothing may be left that could replace it.
      if (!isConfirmed) {
        heirProof?.fill(0)
        return undefined
      }
      return reachServer(client, signal, (waiting) => client.replaceRecovery({ keys, heirProof }, waiting))
    },
    settleRecovery: async (signal) => {
      const client = await requireManager(signal)
      await reachServer(client, signal, client.settleRecovery)
    },
    cancelPending: async (kind, signal) => {
      const client = await requireManager(signal)
      return reachServer(client, signal, (waiting) => client.cancelPending(kind, waiting))
    },
    recoveryStage: () => loadRecoveryStage(store),
    recoverKeys: async (lost, signal) => {
      const isRevoked = lost.length > 0 && (await revoke(lost, 'lost', signal))
      const isDue = !hasNewKeys(await requireManager(signal))
      if (isDue) await rotate(signal)
      await noteRecoveryStage(store, 'phrase')
      return isRevoked || isDue
    },
    hasRenewedPhrase: async (signal) => {
      const { book, identity } = (await requireManager(signal)).device
      const recovery = findRecovery(book.require())
      const signer = recovery && book.factsAt(recovery.addedSeq)?.signer
      // One that another device has put there may be the doing of whoever has that device.
      return signer !== undefined && isSameId(signer, identity.deviceId)
    },
    endRecovery: () => noteRecoveryStage(store, undefined),
  }
}
