// What a device can say of its account without a server: its devices, its streams, and how far it has everything.

import {
  type DeviceId,
  type DeviceRole,
  type DeviceState,
  decodeUtf8,
  devicesOf,
  findDevice,
  fromHex,
  isSameId,
  toHex,
} from '@valise/protocol'
import { CHECKPOINT_STREAM } from '../checkpoint.ts'
import type { DeviceParts } from '../device-parts.ts'
import { FAULT_STREAM } from '../receive/fault-report.ts'
import type { AtRestSealer } from '../store/at-rest.ts'
import { keysUnder, storeKeys } from '../store/layout.ts'
import { parseStreamHead } from '../store/records.ts'
import type { Store } from '../store/store.ts'
import { formatDeviceFingerprint } from './fingerprint.ts'
import type { EntryFacts } from './log-book.ts'
import { type DeviceProfile, PROFILE_STREAM, readProfiles } from './profile.ts'

export interface DeviceSummary {
  readonly deviceId: DeviceId
  readonly name: string | undefined
  readonly platform: string | undefined
  readonly role: DeviceRole
  readonly status: 'active' | 'suspended' | 'revoked'
  /** Where it was cut off, if it was. */
  readonly cut: DeviceCut | undefined
  readonly isThisDevice: boolean
  readonly addedSeq: number
  /** Unix milliseconds by the clock of the device that signed it in. */
  readonly addedAtMs: number
  /** The newest event of it that this device holds. */
  readonly lastDeviceSeq: number
  readonly deviceFingerprint: string
}

export interface DeviceCut {
  /** The entry of the device log that revoked it; there is no second one. */
  readonly logSeq: number
  /** The last event of its own that counts; 0: none does. */
  readonly deviceSeq: number
  /** Who signed the entry, and when by his clock (Unix milliseconds). */
  readonly signer: Pick<DeviceSummary, 'name' | 'role' | 'isThisDevice' | 'deviceFingerprint'>
  readonly signedAtMs: number
}

export interface StreamSummary {
  /** Known on a device that has used the stream. */
  readonly name: string | undefined
  readonly streamId: Uint8Array
  readonly events: number
}

/** `own` is what this device calls itself now. */
export async function listDevices(
  { identity, book, localLog, reader }: DeviceParts,
  own: DeviceProfile = identity,
): Promise<DeviceSummary[]> {
  const log = book.require()
  const profiles = await readProfiles(reader)
  const describe = ({ deviceId, record }: Pick<DeviceState, 'deviceId' | 'record'>) => {
    const isThisDevice = isSameId(deviceId, identity.deviceId)
    const profile = isThisDevice ? own : profiles.get(toHex(deviceId))
    return {
      deviceId,
      name: profile?.name,
      platform: profile?.platform,
      role: record.role,
      isThisDevice,
      deviceFingerprint: formatDeviceFingerprint(deviceId),
    }
  }
  const factsAt = (seq: number): EntryFacts => {
    const facts = book.factsAt(seq)
    if (facts === undefined) throw new Error('an entry of the verified device log is missing')
    return facts
  }
  const cutOf = ({ status }: DeviceState): DeviceCut | undefined => {
    if (status.type === 'active') return undefined
    const { timeMs, signer } = factsAt(status.atSeq)
    const device = findDevice(log, signer)
    if (device === undefined) throw new Error('the signer of an entry is not in the device log')
    return { logSeq: status.atSeq, deviceSeq: status.lastSeq, signer: describe(device), signedAtMs: timeMs }
  }
  return devicesOf(log).map((device) => ({
    ...describe(device),
    status: device.status.type,
    cut: cutOf(device),
    addedSeq: device.addedSeq,
    addedAtMs: factsAt(device.addedSeq).timeMs,
    lastDeviceSeq: localLog.deviceHead(device.deviceId)?.deviceSeq ?? 0,
  }))
}

/** Without the streams that the client keeps for itself. */
export async function listStreams(
  store: Store,
  sealer: AtRestSealer,
  { epochKeys }: Pick<DeviceParts, 'epochKeys'>,
): Promise<StreamSummary[]> {
  const streams: StreamSummary[] = []
  const hidden = new Set(
    [CHECKPOINT_STREAM, PROFILE_STREAM, FAULT_STREAM].map((name) =>
      toHex(epochKeys.streamId(name) ?? new Uint8Array(0)),
    ),
  )
  for await (const [key, value] of store.range(keysUnder('stream/'))) {
    const hex = key.slice('stream/'.length)
    if (hidden.has(hex)) continue
    const streamId = fromHex(hex) ?? new Uint8Array(0)
    const nameKey = storeKeys.streamName(streamId)
    const sealed = await store.get(nameKey)
    const name = sealed === undefined ? undefined : decodeUtf8(sealer.open(nameKey, sealed))
    streams.push({ name, streamId, events: parseStreamHead(key, value).streamSeq })
  }
  return streams
}

export async function countHeldEvents(store: Store): Promise<number> {
  let count = 0
  for await (const _entry of store.range(keysUnder('event/'))) count += 1
  return count
}
