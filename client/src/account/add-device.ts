// Signs a new device into the user's device log: the entry, and the current epoch's box for it. A signer that cannot open
// the current epoch, because its maker sealed it falsely, starts the next one first.

import { buildAdd, type DeviceLogState, type DeviceRecord, deviceIdOf, findDevice } from '@valise/protocol'
import { sealBoxForNewDevice } from '../sealing/epoch-boxes.ts'
import { AccountError, EPOCH_CLOSED } from './account-error.ts'
import { type AppendParts, appendEntry, createAttempt } from './append-entry.ts'
import { rotateEpoch } from './manage-devices.ts'
import { type Ask, readAccount } from './sync.ts'

export interface NewDeviceProof {
  readonly record: DeviceRecord
  /** The new device's signature over the user id and its record. */
  readonly proof: Uint8Array
}

/** The seq of the entry that added the device. Rejects as `ask` does; an attempt whose answer was lost may be repeated. */
export async function addDevice(parts: AppendParts, ask: Ask, { record, proof }: NewDeviceProof): Promise<number> {
  const { crypto, clock, identity, book, epochKeys } = parts
  const deviceId = deviceIdOf(crypto, record)
  const isClosed = (log: DeviceLogState): boolean => epochKeys.secretOf(log.epoch.n) === undefined
  await readAccount(ask, book, epochKeys)
  if (findDevice(book.require(), deviceId) === undefined && isClosed(book.require())) {
    await rotateEpoch({ ...parts, attempt: createAttempt() }, ask, isClosed)
  }
  await appendEntry(parts, ask, async (log) => {
    if (findDevice(log, deviceId) !== undefined) return undefined
    const secret = epochKeys.secretOf(log.epoch.n)
    if (secret === undefined) throw new AccountError('epoch_closed', EPOCH_CLOSED)
    const { box, boxHash } = await sealBoxForNewDevice(crypto, log, record, secret)
    const author = { signer: identity.signer, deviceId: identity.deviceId, timeMs: clock.now() }
    const entry = await buildAdd(log, author, { record, boxHash, proof })
    return { entry, boxes: [{ device_id: deviceId, box }] }
  })
  const added = findDevice(book.require(), deviceId)
  if (added === undefined) throw new Error('the device that was added is missing in the device log')
  return added.addedSeq
}
