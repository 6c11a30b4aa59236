// Checks anew, without a server, everything a device holds: the device log from genesis, the secrets of the epochs, and
// of all events, own ones included, chain, signature, order and content. It changes nothing and reports all it finds.

import { type Crypto, type DeviceLogState, findEpoch, formatUuid, toHex, verifyEventSignature } from '@valise/protocol'
import { type Alarm, type AlarmCode, ClientStoppedError, createAlarm, refusedFor } from './alarm.ts'
import type { DeviceParts } from './device-parts.ts'
import { type CheckedEvent, checkEvents } from './receive/check-events.ts'
import { judgeEvent } from './receive/judge-event.ts'
import { epochCommit } from './sealing/epoch.ts'
import { countHoles } from './store/holes.ts'
import type { HeldEvent } from './store/local-log.ts'
import { type DeviceHead, NO_PROGRESS, type Progress, type StreamHead } from './store/records.ts'

export interface VerifyProblem {
  readonly code: AlarmCode
  /** Fit to show to a person, with where it is. */
  readonly text: string
}

export interface VerifyReport {
  readonly isSound: boolean
  readonly deviceLogEntries: number
  readonly devices: number
  readonly epochs: number
  /** Of other devices. */
  readonly events: number
  readonly ownEvents: number
  readonly expiredEvents: number
  /** Of revoked devices, beyond their cuts: kept in their places, shown to nobody. */
  readonly voidEvents: number
  /** Of devices that are at fault, or whose events wait for a key or a signature: kept in their places, opened by nobody. */
  readonly heldBackEvents: number
  readonly signatures: number
  readonly streams: number
  readonly problems: readonly VerifyProblem[]
}

const PAGE = 128
/** After so many the report is long enough. */
const MAX_PROBLEMS = 100

const describe = ({ code, text, detail }: Alarm): VerifyProblem => {
  const where = Object.entries(detail).map(([name, value]) => `${name} ${value}`)
  return { code, text: where.length === 0 ? text : `${text} (${where.join(', ')})` }
}

/** The device log was verified from genesis when `device` was opened. */
export async function verifyDevice(crypto: Crypto, device: DeviceParts): Promise<VerifyReport> {
  const { book, epochKeys, localLog, identity, holds } = device
  const log = book.require()
  const problems: VerifyProblem[] = []
  const report = (code: AlarmCode, detail: Record<string, string | number>): void => {
    if (problems.length < MAX_PROBLEMS) problems.push(describe(createAlarm(code, detail)))
  }
  const epochs = verifyEpochs(crypto, log, epochKeys.secretOf, report)

  const heads = { device: new Map<string, DeviceHead>(), stream: new Map<string, StreamHead>() }
  let progress: Progress = NO_PROGRESS
  const counts = { events: 0, ownEvents: 0, expiredEvents: 0, voidEvents: 0, heldBackEvents: 0, signatures: 0 }
  const ownHex = toHex(identity.deviceId)

  /** One event at a time, so that every signature is checked and a finding names its event. */
  const verifyEvent = (held: HeldEvent): void => {
    const known = {
      device: log,
      logHeadAt: book.headAt,
      // What it was missing for was judged when it came, by what the session said then.
      isPruned: () => held.record.body.type === 'expired' && held.record.body.excuse === 'pruned',
      progress,
      deviceHead: (deviceId: Uint8Array) => heads.device.get(toHex(deviceId)),
      streamHead: (streamId: Uint8Array) => heads.stream.get(toHex(streamId)),
      ownAhead: () => [],
    }
    const outcome = checkEvents(
      { crypto, known, ownDeviceId: undefined },
      { events: [toItem(held)], through: held.userSeq, at: judgedAt(held) },
    )
    if (outcome.type !== 'ok') {
      if (outcome.type === 'log_behind') report('log_seq_invalid', { user_seq: held.userSeq, log_seq: outcome.logSeq })
      else if (outcome.type === 'update_needed') throw new ClientStoppedError(refusedFor('update_needed'))
      else report(outcome.alarm.code, outcome.alarm.detail)
      return
    }
    progress = outcome.batch.progress
    for (const [hex, { head }] of outcome.batch.deviceHeads) heads.device.set(hex, head)
    for (const [hex, { head }] of outcome.batch.streamHeads) heads.stream.set(hex, head)
    const isUnproved = outcome.batch.unproved.length > 0
    for (const event of outcome.batch.events) countEvent(event, isUnproved)
  }
  /** Wrongly signed events, until a later signature of their device proves that the device itself wrote them. */
  const unprovedByDevice = new Map<string, Pick<CheckedEvent, 'userSeq' | 'deviceId' | 'deviceSeq'>[]>()
  const countUnproved = ({ userSeq, deviceId, deviceSeq }: CheckedEvent): void => {
    const hex = toHex(deviceId)
    const before = unprovedByDevice.get(hex) ?? []
    unprovedByDevice.set(hex, [...before, { userSeq, deviceId, deviceSeq }].slice(-MAX_PROBLEMS))
    counts.heldBackEvents += 1
  }
  const countEvent = (event: CheckedEvent, isUnproved: boolean): void => {
    if (event.isVoid) {
      counts.voidEvents += 1
      return
    }
    if (isUnproved && !holds.standing.isHeld(event)) return countUnproved(event)
    if (!isUnproved && event.body.type === 'stored') unprovedByDevice.delete(toHex(event.deviceId))
    if (holds.standing.isHeld(event)) {
      counts.heldBackEvents += 1
      return
    }
    if (toHex(event.deviceId) === ownHex) counts.ownEvents += 1
    else counts.events += 1
    if (event.body.type === 'expired') counts.expiredEvents += 1
    else {
      counts.signatures += 1
      verifyContent(event)
    }
  }
  const verifyContent = ({ userSeq, deviceId, deviceSeq, body }: CheckedEvent): void => {
    if (body.type === 'expired') return
    const judgement = judgeEvent(epochKeys.contentKey(body.event.epoch), body.event)
    if (judgement.type !== 'hold') return
    report('event_unreadable', { user_seq: userSeq, device: formatUuid(deviceId), device_seq: deviceSeq })
  }

  for (let after = 0; ; ) {
    const page = await localLog.read(undefined, after, PAGE)
    for (const held of page) verifyEvent(held)
    after = page.at(-1)?.userSeq ?? after
    if (page.length < PAGE) break
  }
  for (const { userSeq, deviceId, deviceSeq } of [...unprovedByDevice.values()].flat()) {
    report('signature_invalid', { user_seq: userSeq, device: formatUuid(deviceId), device_seq: deviceSeq })
  }
  verifyUnsent(crypto, device, heads.device.get(ownHex), report, counts)
  const missing = countHoles(localLog.progress.holes)
  const explained = device.chain.unreceipted.length
  if (missing > explained) report('events_missing', { missing, explained })
  return {
    isSound: problems.length === 0,
    deviceLogEntries: log.seq + 1,
    devices: log.devices.size,
    epochs,
    ...counts,
    streams: heads.stream.size,
    problems,
  }
}

type Report = (code: AlarmCode, detail: Record<string, string | number>) => void

function verifyEpochs(
  crypto: Crypto,
  log: DeviceLogState,
  secretOf: (n: number) => Uint8Array | undefined,
  report: Report,
): number {
  let sound = 0
  for (let n = 1; n <= log.epoch.n; n++) {
    const secret = secretOf(n)
    const epoch = findEpoch(log, n)
    const isSound =
      secret !== undefined &&
      epoch !== undefined &&
      crypto.isEqual(epochCommit(crypto, log.userId, n, secret), epoch.commit)
    if (isSound) sound += 1
    else report('epoch_key_invalid', { epoch: n })
  }
  return sound
}

/** Own events that have no receipt yet continue the chain of those that have one. */
function verifyUnsent(
  crypto: Crypto,
  { chain, identity }: DeviceParts,
  head: DeviceHead | undefined,
  report: Report,
  counts: { signatures: number },
): void {
  let next = (head?.deviceSeq ?? 0) + 1
  for (const item of chain.unreceipted) {
    const where = { device_seq: item.deviceSeq }
    const isInOrder = item.deviceSeq === next
    const isSigned = verifyEventSignature(crypto, identity.keys.signer.publicKey, item.event)
    if (!isInOrder) report('chain_gap', where)
    if (!isSigned) report('signature_invalid', where)
    counts.signatures += 1
    next = item.deviceSeq + 1
  }
}

/** A lifetime that had ended when the event came has ended since. */
const judgedAt = ({ record: { body } }: HeldEvent): number | undefined =>
  body.type === 'expired' && body.excuse === 'lifetime' ? Number.MAX_SAFE_INTEGER : undefined

const toItem = ({ userSeq, record }: HeldEvent): Parameters<typeof checkEvents>[1]['events'][number] => {
  const { streamSeq, storedAtMs, body } = record
  return body.type === 'stored'
    ? [userSeq, streamSeq, storedAtMs, body.wire]
    : [userSeq, streamSeq, storedAtMs, body.deviceId, body.deviceSeq, body.leaf.ttlS, body.leaf.flags, body.leaf.inner]
}
