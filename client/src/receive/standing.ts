// How far each device is believed (PROTOCOL E, FLT-1): from which of its events on everything is held back, and why. Held
// events keep their places, sealed, in the local log; their chains are checked and nothing in them is opened.

import { createByteReader, createByteWriter, type DeviceId, toDeviceId, toHex } from '@valise/protocol'
import { AlarmError } from '../alarm.ts'
import type { ContentFault } from '../sealing/open-content.ts'
import { keysUnder, storeKeys } from '../store/layout.ts'
import { del, put, type Store, type StoreOperation } from '../store/store.ts'

/** What only the device itself can have done, computed alike by every holder of the log. */
export type FaultKind =
  /** Its own signature on the event is wrong, and a later one of it covers the event. */
  'signature' | ContentFault

/** Why nothing can be said of an event yet. */
export type WaitKind =
  /** The newest signature shown is wrong: either the device wrote it, or the server changed it. */
  | 'unproved'
  /** A signature has proved it since: it is judged at once, or after a restart in between. */
  | 'unjudged'
  /** The key of its epoch is not here. */
  | 'no_key'
  /** Its content is of a version that this program does not know. */
  | 'newer_content'

export interface Hold {
  readonly deviceId: DeviceId
  readonly kind: FaultKind | WaitKind
  /** This event of the device and all after it are held back. */
  readonly fromSeq: number
  /** Where that event stands. */
  readonly userSeq: number
}

const CODE_BY_KIND: Readonly<Record<Hold['kind'], number>> = {
  signature: 1,
  unopenable: 2,
  unparsable: 3,
  kept_mismatch: 4,
  unproved: 17,
  no_key: 18,
  newer_content: 19,
  unjudged: 20,
}
const KIND_BY_CODE = new Map(Object.entries(CODE_BY_KIND).map(([kind, code]) => [code, kind as Hold['kind']]))
const FIRST_WAIT_CODE = 17

export const isFaultKind = (kind: Hold['kind']): kind is FaultKind => CODE_BY_KIND[kind] < FIRST_WAIT_CODE

/** A hold for a fault is final: only a suspension or a revocation follows it. */
export const isFault = (hold: Hold | undefined): hold is Hold & { readonly kind: FaultKind } =>
  hold !== undefined && isFaultKind(hold.kind)

export interface Standing {
  holdOf(deviceId: Uint8Array): Hold | undefined
  /** Of all devices, in no order. */
  readonly holds: readonly Hold[]
  isHeld(event: { readonly deviceId: Uint8Array; readonly deviceSeq: number }): boolean
  /** True for what a reader passes over. At content of a newer version it stops instead: the program must be updated. */
  isHidden(event: { readonly deviceId: Uint8Array; readonly deviceSeq: number }): boolean
  /** To be stored in one batch with what the hold follows from; call `note` after. */
  saving(hold: Hold): StoreOperation
  note(hold: Hold): void
  /** The device is believed again, in everything. */
  clearing(deviceId: DeviceId): StoreOperation
  clear(deviceId: DeviceId): void
}

const encodeHold = ({ deviceId, kind, fromSeq, userSeq }: Hold): Uint8Array =>
  createByteWriter().bytes(deviceId).u8(CODE_BY_KIND[kind]).u64(fromSeq).u64(userSeq).finish()

function parseHold(key: string, bytes: Uint8Array): Hold {
  const reader = createByteReader(bytes)
  const deviceId = toDeviceId(reader.bytes(16))
  const kind = KIND_BY_CODE.get(reader.u8())
  const fromSeq = reader.u64()
  const userSeq = reader.u64()
  if (!reader.finish() || deviceId === undefined || kind === undefined) {
    throw new AlarmError('store_damaged', { record: key })
  }
  return { deviceId, kind, fromSeq, userSeq }
}

export async function openStanding(store: Store): Promise<Standing> {
  const holdByDevice = new Map<string, Hold>()
  for await (const [key, value] of store.range(keysUnder('held/'))) {
    const hold = parseHold(key, value)
    holdByDevice.set(toHex(hold.deviceId), hold)
  }
  const holdAt = ({ deviceId, deviceSeq }: { deviceId: Uint8Array; deviceSeq: number }): Hold | undefined => {
    const hold = holdByDevice.size === 0 ? undefined : holdByDevice.get(toHex(deviceId))
    return hold !== undefined && deviceSeq >= hold.fromSeq ? hold : undefined
  }
  return {
    holdOf: (deviceId) => holdByDevice.get(toHex(deviceId)),
    get holds() {
      return [...holdByDevice.values()]
    },
    isHeld: (event) => holdAt(event) !== undefined,
    isHidden: (event) => {
      const hold = holdAt(event)
      return hold !== undefined && !(hold.kind === 'newer_content' && event.deviceSeq === hold.fromSeq)
    },
    saving: (hold) => put(storeKeys.held(hold.deviceId), encodeHold(hold)),
    note: (hold) => {
      holdByDevice.set(toHex(hold.deviceId), hold)
    },
    clearing: (deviceId) => del(storeKeys.held(deviceId)),
    clear: (deviceId) => {
      holdByDevice.delete(toHex(deviceId))
    },
  }
}
