// Tells the application of every device that others let into the account, once, also when it comes back days later: how
// far it was told is stored. A device that this one let in is no news to it, whatever else came into the log meanwhile.

import { createByteReader, createByteWriter, type DeviceId, devicesOf, isSameId, toHex } from '@valise/protocol'
import { AlarmError } from '../alarm.ts'
import { createListeners } from '../signal.ts'
import { storeKeys } from '../store/layout.ts'
import { put, type Store } from '../store/store.ts'
import { formatDeviceFingerprint } from './fingerprint.ts'
import type { LogBook } from './log-book.ts'

const SEQ_BYTES = 8

export interface AddedDevice {
  readonly deviceId: DeviceId
  readonly role: 'member' | 'manager'
  readonly addedSeq: number
  readonly deviceFingerprint: string
}

export interface AddedDevices {
  add(listener: (device: AddedDevice) => void): () => void
  /** `add` lets the device in, by this device's own doing, and resolves to the seq of its entry. */
  admit(deviceId: DeviceId, add: () => Promise<number>): Promise<number>
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
  const stored = await readTold(store)
  let { toldSeq } = stored
  /** Above `toldSeq`: the entries by which this device let others in. */
  let ownSeqs = stored.ownSeqs
  const admitting = new Set<string>()

  /** Those that others added after this device and after what was told. */
  const untold = (): AddedDevice[] => {
    const devices = book.state === undefined ? [] : devicesOf(book.state)
    const own = devices.find(({ deviceId }) => isSameId(deviceId, ownDeviceId))
    if (own === undefined) return []
    const after = Math.max(own.addedSeq, toldSeq)
    return devices.flatMap(({ deviceId, record: { role }, addedSeq }) =>
      role === 'recovery' || addedSeq <= after || ownSeqs.includes(addedSeq) || admitting.has(toHex(deviceId))
        ? []
        : [{ deviceId, role, addedSeq, deviceFingerprint: formatDeviceFingerprint(deviceId) }],
    )
  }
  const save = async (upTo: number): Promise<void> => {
    toldSeq = upTo
    ownSeqs = ownSeqs.filter((seq) => seq > upTo)
    const writer = createByteWriter().u64(toldSeq)
    for (const seq of ownSeqs) writer.u64(seq)
    await store.batch([put(storeKeys.toldOfDevices, writer.finish())])
  }
  const consider = (): void => {
    if (listenerCount === 0) return
    const devices = untold()
    for (const device of devices) listeners.emit(device)
    if (devices.length > 0) save(book.require().seq).catch(failing)
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
    admit: async (deviceId, add) => {
      const id = toHex(deviceId)
      admitting.add(id)
      try {
        const seq = await add()
        if (seq > toldSeq) ownSeqs = [...ownSeqs, seq]
        await save(untold().length === 0 ? book.require().seq : toldSeq)
        return seq
      } finally {
        admitting.delete(id)
      }
    },
  }
}

async function readTold(store: Store): Promise<{ readonly toldSeq: number; readonly ownSeqs: readonly number[] }> {
  const stored = await store.get(storeKeys.toldOfDevices)
  if (stored === undefined) return { toldSeq: 0, ownSeqs: [] }
  const reader = createByteReader(stored)
  const [toldSeq = 0, ...ownSeqs] = Array.from({ length: Math.ceil(stored.length / SEQ_BYTES) }, () => reader.u64())
  if (!reader.finish()) throw new AlarmError('store_damaged', { record: storeKeys.toldOfDevices })
  return { toldSeq, ownSeqs }
}
