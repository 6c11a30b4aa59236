// A live manager suspends a device that published a fault: the cut is the event before it, so every device has the same one.
// Members only hold back. Of several managers that do it at once the compare-and-swap lets one, and the others find it done.

import {
  type Crypto,
  chainStart,
  type DeviceId,
  type DeviceLogState,
  findDevice,
  isSameId,
  toHex,
  type UserId,
} from '@valise/protocol'
import { isFault, type Standing } from '../receive/standing.ts'
import type { LocalLog } from '../store/local-log.ts'

/** A device and where it is cut: its last event that counts, and the chain there. */
export interface Suspension {
  readonly deviceId: DeviceId
  readonly lastSeq: number
  readonly chain: Uint8Array
}

export interface SuspendFaultyParts {
  readonly crypto: Crypto
  readonly ownDeviceId: DeviceId
  readonly userId: UserId
  readonly standing: Pick<Standing, 'holds'>
  readonly log: Pick<LocalLog, 'chainAt'>
  deviceLog(): DeviceLogState
  /** Signs the suspension, if it is not done yet. Rejects when it could not. */
  suspend(suspension: Suspension): Promise<void>
}

export interface SuspendFaulty {
  /** A session is live, or a fault was found: suspends whom this device can suspend. Never rejects. */
  consider(): void
  /** The session is over: the next one tries again. */
  reset(): void
}

export function createSuspendFaulty(parts: SuspendFaultyParts): SuspendFaulty {
  /** By device and place: once a session, whatever the server answers. */
  const tried = new Set<string>()

  const isManager = (log: DeviceLogState): boolean => {
    const own = findDevice(log, parts.ownDeviceId)
    return own?.status.type === 'active' && own.record.role === 'manager'
  }
  const isToSuspend = (log: DeviceLogState, deviceId: DeviceId): boolean =>
    findDevice(log, deviceId)?.status.type === 'active' && !isSameId(deviceId, parts.ownDeviceId)

  const suspend = async (deviceId: DeviceId, lastSeq: number): Promise<void> => {
    const { crypto, userId, log } = parts
    const chain = lastSeq === 0 ? chainStart(crypto, userId, deviceId) : await log.chainAt(deviceId, lastSeq)
    // Without the event before the fault this device has no proof of the cut; another manager will have.
    if (chain !== undefined) await parts.suspend({ deviceId, lastSeq, chain })
  }

  return {
    consider: () => {
      const log = parts.deviceLog()
      if (!isManager(log)) return
      for (const hold of parts.standing.holds) {
        const key = `${toHex(hold.deviceId)}/${hold.fromSeq}`
        if (!isFault(hold) || !isToSuspend(log, hold.deviceId) || tried.has(key)) continue
        tried.add(key)
        // What kept it from being stored is logged where it happened.
        suspend(hold.deviceId, hold.fromSeq - 1).catch(() => {})
      }
    },
    reset: () => tried.clear(),
  }
}
