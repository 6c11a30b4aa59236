// What a manager signs besides new devices: revocations, suspensions, key epochs and roles (PROTOCOL C). Every
// entry is drafted on the newest state of the log, so that what was decided holds for the log as it is.

import {
  buildRevoke,
  buildRole,
  buildRotate,
  buildSuspend,
  chainStart,
  type DeviceId,
  type DeviceLogState,
  type DeviceState,
  findDevice,
  isSameId,
  keyHolders,
  type RevokedDevice,
} from '@valise/protocol'
import { type SealedEpoch, sealNextEpoch } from '../sealing/epoch-boxes.ts'
import { chooseLinks } from '../sealing/epoch-links.ts'
import type { DeviceHead } from '../store/records.ts'
import { AccountError } from './account-error.ts'
import { type AppendParts, appendEntry, type EntryDraft, toBoxes, toLinks } from './append-entry.ts'
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

export const authorOf = ({ clock, identity }: AppendParts) => ({
  signer: identity.signer,
  deviceId: identity.deviceId,
  timeMs: clock.now(),
})

export const drafted = (entry: Uint8Array, epoch: SealedEpoch): EntryDraft => ({
  entry,
  boxes: toBoxes(epoch),
  links: toLinks(epoch),
  epoch: { n: epoch.start.n, secret: epoch.secret },
})

/** Linked to what this device can open: it need not be the current epoch. */
export const startEpoch = (
  { crypto, epochKeys }: AppendParts,
  log: DeviceLogState,
  members: readonly Pick<DeviceState, 'record'>[],
): Promise<SealedEpoch> =>
  sealNextEpoch(
    crypto,
    log,
    members.map(({ record }) => record),
    chooseLinks(crypto, log, epochKeys.secretOf),
  )

/** One entry for all of them, with a new epoch for the rest. Those revoked before are left out; false when none is left. */
export function revokeDevices(parts: AppendParts, ask: Ask, revocation: Revocation): Promise<boolean> {
  const { crypto, identity } = parts
  return appendEntry(parts, ask, async (log) => {
    const toRevoke = revocation.deviceIds.filter((deviceId) => {
      const device = findDevice(log, deviceId)
      if (device === undefined) throw new AccountError('unknown_device', 'No device of this account is meant by that.')
      if (device.record.role === 'recovery') {
        throw new AccountError('unknown_device', 'The recovery phrase is no device to revoke; replace it by a new one.')
      }
      return device.status.type !== 'revoked'
    })
    if (toRevoke.length === 0) return undefined
    const devices = toRevoke.map((deviceId): RevokedDevice => {
      const status = findDevice(log, deviceId)?.status
      // A suspended device stays cut where it was: what others took for void must not count again.
      if (status?.type === 'suspended') return { deviceId, lastSeq: status.lastSeq, chain: status.chain }
      const cut = revocation.cutOf(deviceId)
      const chain = cut?.chain ?? chainStart(crypto, log.userId, deviceId)
      return { deviceId, lastSeq: cut?.deviceSeq ?? 0, chain }
    })
    const rest = keyHolders(log).filter(({ deviceId }) => !toRevoke.some((revoked) => isSameId(revoked, deviceId)))
    const epoch = await startEpoch(parts, log, rest)
    const entry = await buildRevoke(log, authorOf(parts), {
      devices,
      reason: REVOKE_REASONS[revocation.reason],
      epoch: epoch.start,
    })
    const isOwn = toRevoke.some((deviceId) => isSameId(deviceId, identity.deviceId))
    // A device that revokes itself makes the key of what follows, and must not keep it.
    return isOwn ? { ...drafted(entry, epoch), epoch: undefined } : drafted(entry, epoch)
  })
}

/** `isDue` is asked for the log as it is when it is signed: of two devices that rotate at once one finds it done. */
export function rotateEpoch(parts: AppendParts, ask: Ask, isDue: (log: DeviceLogState) => boolean): Promise<boolean> {
  return appendEntry(parts, ask, async (log) => {
    if (!isDue(log)) return undefined
    const epoch = await startEpoch(parts, log, keyHolders(log))
    return drafted(await buildRotate(log, authorOf(parts), epoch.start), epoch)
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
