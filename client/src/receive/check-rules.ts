// The single rules of PROTOCOL E for one event: its device, its epoch, its place in its device's chain and its stream.
// Each returns what follows from it, or throws a `Finding` that names what is wrong and where.

import {
  type Crypto,
  chainStart,
  type DeviceId,
  type DeviceLogState,
  type DeviceState,
  equalBytes,
  findDevice,
  findEpoch,
  isBeyondCut,
  type ParsedEvent,
  type UserId,
} from '@valise/protocol'
import { type Alarm, type AlarmCode, AlarmError, createAlarm, UpdateNeededError } from '../alarm.ts'
import type { DeviceHead, StreamHead } from '../store/records.ts'

/** Why a message of events is not applied. */
export type CheckFailure =
  /** An event names a state of the device log that this device has not read. */
  | { readonly type: 'log_behind'; readonly logSeq: number }
  /** Events of a device are missing: to be asked for once. */
  | { readonly type: 'gap'; readonly alarm: Alarm }
  /** An event of a form that only a newer program knows. */
  | { readonly type: 'update_needed' }
  | { readonly type: 'alarm'; readonly alarm: Alarm }

export class Finding extends Error {
  readonly failure: CheckFailure

  constructor(failure: CheckFailure) {
    super(failure.type)
    this.failure = failure
  }
}

/** What is thrown for a failure that nothing mends. */
export function toError(failure: CheckFailure): Error {
  switch (failure.type) {
    case 'log_behind':
      return new AlarmError('device_log_shorter', { seq: failure.logSeq })
    case 'update_needed':
      return new UpdateNeededError()
    case 'gap':
    case 'alarm':
      return new AlarmError(failure.alarm.code, failure.alarm.detail)
  }
}

/** Where in the log something is wrong: ids and numbers. */
export type Where = Readonly<Record<string, string | number>>

export const fail = (code: AlarmCode, where: Where): Finding =>
  new Finding({ type: 'alarm', alarm: createAlarm(code, where) })

/** Known and allowed to publish; unless it is void, consistent with the state of the device log that the event names. */
export function checkDevice(
  { device: log, logHeadAt }: { readonly device: DeviceLogState; logHeadAt(seq: number): Uint8Array | undefined },
  deviceId: DeviceId,
  { deviceSeq, event }: { readonly deviceSeq: number; readonly event: ParsedEvent | undefined },
  where: Where,
): DeviceState {
  const device = findDevice(log, deviceId)
  // What a void event names is nobody's concern: it must not send anybody to look for it.
  if (device !== undefined && isBeyondCut(device, deviceSeq)) return device
  if (event !== undefined && event.logSeq > log.seq) throw new Finding({ type: 'log_behind', logSeq: event.logSeq })
  if (device === undefined || device.record.role === 'recovery') throw fail('unknown_device', where)
  if (event === undefined) return device
  const { logSeq, epoch: n } = event
  const isBeforeItsTime = logSeq < device.addedSeq
  const isAfterItsTime = device.status.type === 'revoked' && logSeq >= device.status.atSeq
  if (isBeforeItsTime || isAfterItsTime) throw fail('log_seq_invalid', { ...where, log_seq: logSeq })
  const head = logHeadAt(logSeq)
  if (head === undefined || !equalBytes(head, event.logHead)) {
    throw fail('log_head_invalid', { ...where, log_seq: logSeq })
  }
  const epoch = findEpoch(log, n)
  const next = findEpoch(log, n + 1)
  if (epoch === undefined || epoch.logSeq > logSeq || (next !== undefined && next.logSeq <= logSeq)) {
    throw fail('epoch_invalid', { ...where, epoch: n, log_seq: logSeq })
  }
  return device
}

/** The chain_prev that the event continues. */
export function checkContinues(
  crypto: Crypto,
  userId: UserId,
  next: {
    readonly deviceId: DeviceId
    readonly deviceSeq: number
    readonly event: ParsedEvent | undefined
    readonly head: DeviceHead | undefined
  },
  where: Where,
): Uint8Array {
  const { deviceId, deviceSeq, event, head } = next
  const lastSeq = head?.deviceSeq ?? 0
  if (deviceSeq <= lastSeq) throw fail('chain_repeated', { ...where, last: lastSeq })
  if (deviceSeq === lastSeq + 1) {
    const expected = head?.chain ?? chainStart(crypto, userId, deviceId)
    if (event !== undefined && !equalBytes(event.chainPrev, expected)) throw fail('chain_forked', where)
    return expected
  }
  throw new Finding({ type: 'gap', alarm: createAlarm('chain_gap', { ...where, expected: lastSeq + 1 }) })
}

/** The chain of a revoked device passes through its cut. */
export function checkCut(device: DeviceState, deviceSeq: number, chain: Uint8Array, where: Where): void {
  if (device.status.type !== 'revoked') return
  const { lastSeq, chain: cutChain } = device.status
  if (deviceSeq === lastSeq && !equalBytes(chain, cutChain)) throw fail('chain_forked', { ...where, last: lastSeq })
}

/** Continuous, unless something between the two positions is missing here: then it may have been in this stream. */
export function checkStream(
  head: StreamHead | undefined,
  at: { readonly userSeq: number; readonly streamSeq: number },
  lastMissing: number,
  where: Where,
): void {
  const skipped = at.streamSeq - (head?.streamSeq ?? 0) - 1
  const isNothingMissing = lastMissing <= (head?.userSeq ?? 0)
  const roomForSkipped = at.userSeq - (head?.userSeq ?? 0) - 1
  if (skipped < 0 || skipped > roomForSkipped || (skipped > 0 && isNothingMissing)) {
    throw fail('stream_order_broken', { ...where, stream_seq: at.streamSeq, last: head?.streamSeq ?? 0 })
  }
}
