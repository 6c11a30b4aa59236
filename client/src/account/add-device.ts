// Signs a new device into the user's device log: the entry, and the current epoch's box for it. The append is
// compare-and-swap: when another entry came first, the log is read and the entry signed anew.

import { buildAdd, type Crypto, type DeviceLogState, type DeviceRecord, deviceIdOf, findDevice } from '@valise/protocol'
import type { Clock } from '../clock.ts'
import { RequestRefusedError } from '../connection/requests.ts'
import { sealBoxForNewDevice } from '../sealing/epoch-boxes.ts'
import type { EpochKeys } from './epoch-keys.ts'
import type { Identity } from './identity.ts'
import type { LogBook } from './log-book.ts'
import { type Ask, readDeviceLog, readEpochKeys } from './sync.ts'

export interface NewDeviceProof {
  readonly record: DeviceRecord
  /** The new device's signature over the user id and its record. */
  readonly proof: Uint8Array
}

export interface AddDeviceParts {
  readonly crypto: Crypto
  readonly clock: Clock
  readonly identity: Pick<Identity, 'deviceId' | 'keys'>
  readonly book: LogBook
  readonly epochKeys: EpochKeys
}

/** Others append entries too, but not that often. */
const MAX_ATTEMPTS = 8

/** The seq of the entry that added the device. Rejects as `ask` does; an attempt whose answer was lost may be repeated. */
export async function addDevice(parts: AddDeviceParts, ask: Ask, device: NewDeviceProof): Promise<number> {
  const { crypto, book, epochKeys } = parts
  for (let attempt = 1; ; attempt++) {
    await readDeviceLog(ask, book)
    await readEpochKeys(ask, book, epochKeys)
    const log = book.require()
    const known = findDevice(log, deviceIdOf(crypto, device.record))
    if (known !== undefined) return known.addedSeq
    const { entry, box, deviceId } = await signAdd(parts, log, device)
    try {
      const boxes = [{ device_id: deviceId, box }]
      await ask({ type: 'append_device_log', entry, boxes, prev_box: null })
      // The server may have told of the entry before it answered.
      if (book.require().seq === log.seq) await book.append([entry])
      return log.seq + 1
    } catch (error) {
      const isBehind = error instanceof RequestRefusedError && error.answer.code === 'log_head_moved'
      if (!isBehind || attempt >= MAX_ATTEMPTS) throw error
    }
  }
}

async function signAdd(
  { crypto, clock, identity, epochKeys }: AddDeviceParts,
  log: DeviceLogState,
  { record, proof }: NewDeviceProof,
) {
  const secret = epochKeys.secretOf(log.epoch.n)
  if (secret === undefined) throw new Error('the secret of the current epoch is missing')
  const { box, boxHash } = await sealBoxForNewDevice(crypto, log, record, secret)
  const author = { signer: identity.keys.signer, deviceId: identity.deviceId, timeMs: clock.now() }
  return { entry: await buildAdd(log, author, { record, boxHash, proof }), box, deviceId: deviceIdOf(crypto, record) }
}
