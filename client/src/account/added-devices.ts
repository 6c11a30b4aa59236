// Tells the application of every device that others let into the account, once, also when it comes back days later: how
// far it was told is stored. A device that only this one let in is no news to it.

import { createByteReader, createByteWriter, type DeviceId, isSameId } from '@valise/protocol'
import { AlarmError } from '../alarm.ts'
import { createListeners } from '../signal.ts'
import { storeKeys } from '../store/layout.ts'
import { put, type Store } from '../store/store.ts'
import { formatDeviceFingerprint } from './fingerprint.ts'
import type { LogBook } from './log-book.ts'

export interface AddedDevice {
  readonly deviceId: DeviceId
  readonly role: 'member' | 'manager'
  readonly addedSeq: number
  readonly deviceFingerprint: string
}

export interface AddedDevices {
  add(listener: (device: AddedDevice) => void): () => void
  /** What the log holds by now was this device's own doing. */
  acknowledge(): Promise<void>
}

export interface AddedDevicesParts {
  readonly store: Store
  readonly book: LogBook
  readonly ownDeviceId: DeviceId
  failing(error: unknown): void
}

export async function createAddedDevices({
  store,
  book,
  ownDeviceId,
  failing,
}: AddedDevicesParts): Promise<AddedDevices> {
  const listeners = createListeners<AddedDevice>(failing)
  let listenerCount = 0
  let toldSeq = await readTold(store)

  /** Those added after this device and after what was told. */
  const untold = (): AddedDevice[] => {
    const devices = [...(book.state?.devices.values() ?? [])]
    const own = devices.find(({ deviceId }) => isSameId(deviceId, ownDeviceId))
    if (own === undefined) return []
    const after = Math.max(own.addedSeq, toldSeq ?? 0)
    return devices.flatMap(({ deviceId, record: { role }, addedSeq }) =>
      role === 'recovery' || addedSeq <= after
        ? []
        : [{ deviceId, role, addedSeq, deviceFingerprint: formatDeviceFingerprint(deviceId) }],
    )
  }
  const save = async (): Promise<void> => {
    const seq = book.state?.seq
    if (seq === undefined || seq === toldSeq) return
    toldSeq = seq
    await store.batch([put(storeKeys.toldOfDevices, createByteWriter().u64(seq).finish())])
  }
  const consider = (): void => {
    if (listenerCount === 0) return
    const devices = untold()
    for (const device of devices) listeners.emit(device)
    if (devices.length > 0) save().catch(failing)
  }

  book.onAppend(async () => ({ also: [], onStored: consider }))

  return {
    add: (listener) => {
      const remove = listeners.add(listener)
      listenerCount += 1
      consider()
      return () => {
        listenerCount -= 1
        remove()
      }
    },
    acknowledge: save,
  }
}

async function readTold(store: Store): Promise<number | undefined> {
  const stored = await store.get(storeKeys.toldOfDevices)
  if (stored === undefined) return undefined
  const reader = createByteReader(stored)
  const seq = reader.u64()
  if (!reader.finish()) throw new AlarmError('store_damaged', { record: storeKeys.toldOfDevices })
  return seq
}
