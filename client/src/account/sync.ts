// Brings this device's copy of the device log and its epoch keys up to what the server has, over a session.

import { findDevice } from '@valise/protocol'
import { AlarmError } from '../alarm.ts'
import type { Answer, RequestBody } from '../connection/requests.ts'
import type { EpochKeys, ReceivedEnvelopes } from './epoch-keys.ts'
import type { LogBook } from './log-book.ts'

export type Ask = (body: RequestBody) => Promise<Answer>

/** The verified device log holds the entry that revoked this device: a fact, whoever delivered it. */
export class DeviceRevokedError extends Error {
  constructor() {
    super('this device was revoked')
    this.name = 'DeviceRevokedError'
  }
}

/** A server that never ends a sequence of pages is not followed for ever. */
const MAX_PAGES = 10_000

/** Reads the device log to its end, at least up to `upTo`. Throws alarms. */
export async function readDeviceLog(ask: Ask, book: LogBook, upTo = 0): Promise<void> {
  for (let page = 0; page < MAX_PAGES; page++) {
    const answer = await ask({ type: 'fetch_device_log', after_seq: book.state?.seq ?? null })
    if (answer.type !== 'device_log') throw new AlarmError('malformed_message', { answer: answer.type })
    await book.append(answer.entries)
    const seq = book.state?.seq ?? -1
    if (answer.head_seq < seq) throw new AlarmError('device_log_shorter', { seq: answer.head_seq, known: seq })
    if (seq >= answer.head_seq) {
      if (seq < upTo) throw new AlarmError('device_log_shorter', { seq, expected: upTo })
      return
    }
    if (answer.entries.length === 0) throw new AlarmError('device_log_shorter', { seq, expected: answer.head_seq })
  }
  throw new AlarmError('malformed_message', { answer: 'device_log' })
}

/** Fetches and opens the epoch secrets that are missing here; some may stay closed. Throws alarms. */
export async function readEpochKeys(ask: Ask, book: LogBook, epochKeys: EpochKeys): Promise<void> {
  const log = book.require()
  const first = epochKeys.firstMissing(log)
  if (first === undefined) return
  const look = async (): Promise<void> => epochKeys.receive(log, await fetchEnvelopes(ask, log.epoch.n, first))
  try {
    await look()
  } catch (error) {
    // A node that has the entry may not have its boxes yet: asked once more, it has no excuse.
    if (!(error instanceof AlarmError) || error.alarm.code !== 'epoch_key_invalid') throw error
    await look()
  }
}

/** The boxes and links of the epochs from `first` to `last`. */
async function fetchEnvelopes(ask: Ask, last: number, first: number): Promise<ReceivedEnvelopes> {
  const boxes = new Map<number, Uint8Array>()
  const links = new Map<number, Map<number, Uint8Array>>()
  let after = first - 1
  for (let page = 0; page < MAX_PAGES; page++) {
    const answer = await ask({ type: 'fetch_envelopes', after_epoch: after })
    if (answer.type !== 'envelopes') throw new AlarmError('malformed_message', { answer: answer.type })
    for (const { epoch, box } of answer.boxes) if (epoch <= last) boxes.set(epoch, box)
    for (const { epoch, prev_epoch, box } of answer.links) {
      if (epoch <= last) links.set(epoch, (links.get(epoch) ?? new Map<number, Uint8Array>()).set(prev_epoch, box))
    }
    const newest = [...answer.boxes, ...answer.links].reduce((highest, { epoch }) => Math.max(highest, epoch), 0)
    // Later epochs are not in the log that was read: however many pages follow, they are of no use.
    if (answer.is_last || newest >= last) return { boxes, links }
    if (!(newest > after)) throw new AlarmError('malformed_message', { answer: 'envelopes' })
    after = newest
  }
  throw new AlarmError('malformed_message', { answer: 'envelopes' })
}

/** Both, up to what the server has. Throws alarms, and `DeviceRevokedError` before it asks for keys that are not for it. */
export async function readAccount(ask: Ask, book: LogBook, epochKeys: EpochKeys, upTo = 0): Promise<void> {
  await readDeviceLog(ask, book, upTo)
  refuseRevoked(book, epochKeys)
  await readEpochKeys(ask, book, epochKeys)
}

/** Throws `DeviceRevokedError` when the log says so of the device whose keys these are. */
export function refuseRevoked(book: LogBook, { deviceId }: Pick<EpochKeys, 'deviceId'>): void {
  if (book.state !== undefined && findDevice(book.state, deviceId)?.status.type === 'revoked') {
    throw new DeviceRevokedError()
  }
}
