// The port to who is online: a session holds its device's lease and renews it; a lease that nobody renews ends by
// itself, so a node that dies leaves no ghost (PRE-1). A lease belongs to a session by number: an older session
// neither takes nor ends a newer one's.

import { toHex } from '@valise/protocol'
import type { DeviceKey } from '../db/queries/devices.ts'

export interface Lease extends DeviceKey {
  readonly sessionNumber: number
}

export interface Leases {
  /** Takes or renews. Never rejects: what could not be written is written with the next renewal. */
  hold(leases: readonly Lease[]): Promise<void>
  /** True when the lease was this session's and has ended. */
  release(lease: Lease): Promise<boolean>
  /** The session that holds each device's lease, undefined where none does. Undefined as a whole: cannot be known now. */
  read(devices: readonly DeviceKey[]): Promise<readonly (number | undefined)[] | undefined>
  close(): Promise<void>
}

export const leaseKey = ({ userId, deviceId }: DeviceKey): string => `${toHex(userId)}:${toHex(deviceId)}`
