// What a manager signs besides new devices: revocations, key epochs, roles, a new recovery device (PROTOCOL C). Every
// entry is drafted on the newest state of the log, so that what was decided holds for the log as it is.

import {
  activeDevices,
  buildRecovery,
  buildRevoke,
  buildRole,
  buildRotate,
  buildSuspend,
  chainStart,
  type DeviceId,
  type DeviceLogState,
  type DeviceState,
  findDevice,
  isActive,
  isSameId,
  type RevokedDevice,
  signDevicePop,
} from '@valise/protocol'
import type { DeviceKeys } from '../sealing/device-keys.ts'
import { type SealedEpoch, sealNextEpoch } from '../sealing/epoch-boxes.ts'
import type { DeviceHead } from '../store/records.ts'
import { AccountError } from './account-error.ts'
import { type AppendParts, appendEntry, type EntryDraft, secretOfCurrentEpoch, toBoxes } from './append-entry.ts'
import type { Ask } from './sync.ts'

/** For people; no rule hangs on it. The number stands in the entry. */
export const REVOKE_REASONS = { unspecified: 0, lost: 1, stolen: 2, retired: 3, replaced: 4 } as const
export type RevokeReason = keyof typeof REVOKE_REASONS

export interface Revocation {
  readonly deviceIds: readonly DeviceId[]
  readonly reason: RevokeReason
  /** The newest event of a device that this one has applied: the cut. */
  cutOf(deviceId: DeviceId): DeviceHead | undefined
}

const authorOf = ({ clock, identity }: AppendParts) => ({
  signer: identity.signer,
  deviceId: identity.deviceId,
  timeMs: clock.now(),
})

const drafted = (entry: Uint8Array, epoch: SealedEpoch): EntryDraft => ({
  entry,
  boxes: toBoxes(epoch),
  prevBox: epoch.prevBox,
  epoch: { n: epoch.start.n, secret: epoch.secret },
})

const startEpoch = ({ crypto, epochKeys }: AppendParts, log: DeviceLogState, members: readonly DeviceState[]) =>
  sealNextEpoch(
    crypto,
    log,
    members.map(({ record }) => record),
    secretOfCurrentEpoch(log, epochKeys),
  )

/** One entry for all of them, with a new epoch for the rest. Those revoked before are left out; false when none is left. */
export function revokeDevices(parts: AppendParts, ask: Ask, revocation: Revocation): Promise<boolean> {
  const { crypto, identity } = parts
  return appendEntry(parts, ask, async (log) => {
    const active = revocation.deviceIds.filter((deviceId) => {
      const device = findDevice(log, deviceId)
      if (device === undefined) throw new AccountError('unknown_device', 'No device of this account is meant by that.')
      if (device.record.role === 'recovery') {
        throw new AccountError('unknown_device', 'The recovery phrase is no device to revoke; replace it by a new one.')
      }
      return isActive(device)
    })
    if (active.length === 0) return undefined
    const devices = active.map((deviceId): RevokedDevice => {
      const cut = revocation.cutOf(deviceId)
      const chain = cut?.chain ?? chainStart(crypto, log.userId, deviceId)
      return { deviceId, lastSeq: cut?.deviceSeq ?? 0, chain }
    })
    const rest = activeDevices(log).filter(({ deviceId }) => !active.some((revoked) => isSameId(revoked, deviceId)))
    const epoch = await startEpoch(parts, log, rest)
    const entry = await buildRevoke(log, authorOf(parts), {
      devices,
      reason: REVOKE_REASONS[revocation.reason],
      epoch: epoch.start,
    })
    const isOwn = active.some((deviceId) => isSameId(deviceId, identity.deviceId))
    // A device that revokes itself makes the key of what follows, and must not keep it.
    return isOwn ? { ...drafted(entry, epoch), epoch: undefined } : drafted(entry, epoch)
  })
}

/** `isDue` is asked for the log as it is when it is signed: of two devices that rotate at once one finds it done. */
export function rotateEpoch(parts: AppendParts, ask: Ask, isDue: (log: DeviceLogState) => boolean): Promise<boolean> {
  return appendEntry(parts, ask, async (log) => {
    if (!isDue(log)) return undefined
    const epoch = await startEpoch(parts, log, activeDevices(log))
    return drafted(await buildRotate(log, authorOf(parts), epoch.start), epoch)
  })
}

/** The phrase that was valid before is void from this entry on. */
export function replaceRecovery(parts: AppendParts, ask: Ask, recovery: DeviceKeys): Promise<boolean> {
  return appendEntry(parts, ask, async (log) => {
    if (findDevice(log, recovery.deviceId) !== undefined) return undefined
    const rest = activeDevices(log).filter(({ record }) => record.role !== 'recovery')
    const members = [...rest.map(({ record }) => record), recovery.record]
    const epoch = await sealNextEpoch(parts.crypto, log, members, secretOfCurrentEpoch(log, parts.epochKeys))
    const proof = await signDevicePop(recovery.signer, log.userId, recovery.record)
    const change = { record: recovery.record, epoch: epoch.start, proof }
    return drafted(await buildRecovery(log, authorOf(parts), change), epoch)
  })
}

export function changeRole(
  parts: AppendParts,
  ask: Ask,
  change: { readonly deviceId: DeviceId; readonly role: 'manager' | 'member' },
): Promise<boolean> {
  return appendEntry(parts, ask, async (log) => {
    if (findDevice(log, change.deviceId)?.record.role === change.role) return undefined
    return { entry: await buildRole(log, authorOf(parts), change), boxes: [] }
  })
}

/** Cuts a device that published a fault; it ends only by a revocation. False when it is suspended or revoked already. */
export function suspendDevice(parts: AppendParts, ask: Ask, suspension: RevokedDevice): Promise<boolean> {
  return appendEntry(parts, ask, async (log) => {
    if (findDevice(log, suspension.deviceId)?.status.type !== 'active') return undefined
    return { entry: await buildSuspend(log, authorOf(parts), suspension), boxes: [] }
  })
}
