// Signs a new device into the user's device log: the entry, and the current epoch's box for it.

import { buildAdd, type DeviceRecord, deviceIdOf, findDevice } from '@valise/protocol'
import { sealBoxForNewDevice } from '../sealing/epoch-boxes.ts'
import { type AppendParts, appendEntry, secretOfCurrentEpoch } from './append-entry.ts'
import type { Ask } from './sync.ts'

export interface NewDeviceProof {
  readonly record: DeviceRecord
  /** The new device's signature over the user id and its record. */
  readonly proof: Uint8Array
}

/** The seq of the entry that added the device. Rejects as `ask` does; an attempt whose answer was lost may be repeated. */
export async function addDevice(parts: AppendParts, ask: Ask, { record, proof }: NewDeviceProof): Promise<number> {
  const { crypto, clock, identity, book, epochKeys } = parts
  const deviceId = deviceIdOf(crypto, record)
  await appendEntry(parts, ask, async (log) => {
    if (findDevice(log, deviceId) !== undefined) return undefined
    const { box, boxHash } = await sealBoxForNewDevice(crypto, log, record, secretOfCurrentEpoch(log, epochKeys))
    const author = { signer: identity.signer, deviceId: identity.deviceId, timeMs: clock.now() }
    const entry = await buildAdd(log, author, { record, boxHash, proof })
    return { entry, boxes: [{ device_id: deviceId, box }] }
  })
  const added = findDevice(book.require(), deviceId)
  if (added === undefined) throw new Error('the device that was added is missing in the device log')
  return added.addedSeq
}
