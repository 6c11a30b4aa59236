// Opens what a device remembers and makes the parts that work on it. Everything is loaded and verified here, once.

import type { Crypto } from '@valise/protocol'
import { type EpochKeys, openEpochKeys } from './account/epoch-keys.ts'
import type { Identity } from './account/identity.ts'
import { type LogBook, openLogBook } from './account/log-book.ts'
import { PROFILE_STREAM } from './account/profile.ts'
import { readAccount } from './account/sync.ts'
import { CHECKPOINT_STREAM, type Checkpoints, openCheckpoints } from './checkpoint.ts'
import type { Clock } from './clock.ts'
import { type Requests, SessionLostError } from './connection/requests.ts'
import { createEventReader, type EventReader } from './event-reader.ts'
import type { PublishDelay } from './publish/delay.ts'
import { type Outbox, type OutboxLimits, openOutbox } from './publish/outbox.ts'
import { type OwnChain, openOwnChain } from './publish/own-chain.ts'
import { createPublisher, DEFAULT_WINDOW_LIMITS, type Publisher, type PublishReceipt } from './publish/publisher.ts'
import { openRefusedContent, type RefusedContent } from './publish/refused-content.ts'
import type { PublishRefusal } from './publish/repair.ts'
import { FAULT_STREAM } from './receive/fault-report.ts'
import { type FoundFault, type Holds, openHolds } from './receive/holds.ts'
import { createLateEvents, type LateEvents } from './receive/late-events.ts'
import type { PrunedRange } from './receive/pruned-ranges.ts'
import { createReceiver, type Receiver } from './receive/receiver.ts'
import type { Hold } from './receive/standing.ts'
import { isVoidEvent, openVoidEvents, type VoidEvents } from './receive/void-events.ts'
import { openServerTime, type ServerTime } from './server-time.ts'
import { createPulse } from './signal.ts'
import type { AtRestSealer } from './store/at-rest.ts'
import { type LocalLog, openLocalLog } from './store/local-log.ts'
import type { Store } from './store/store.ts'

export interface DeviceParts {
  readonly identity: Identity
  readonly book: LogBook
  readonly epochKeys: EpochKeys
  readonly localLog: LocalLog
  readonly voidEvents: VoidEvents
  readonly holds: Holds
  readonly lateEvents: LateEvents
  readonly outbox: Outbox
  readonly refusedContent: RefusedContent
  readonly chain: OwnChain
  readonly publisher: Publisher
  readonly receiver: Receiver
  readonly checkpoints: Checkpoints
  readonly reader: EventReader
  readonly serverTime: ServerTime
  /** As the newest session announced them. */
  readonly limits: { maxPayload: number }
}

export interface OpenDeviceParts {
  readonly store: Store
  readonly sealer: AtRestSealer
  readonly crypto: Crypto
  readonly clock: Clock
  readonly identity: Identity
  readonly outboxLimits: OutboxLimits
  readonly checkpointEvery: number
  readonly maxPayload: number
  /** The questions of the session that is up. */
  requests(): Requests | undefined
  onReceipt(receipt: PublishReceipt): void
  onDelay(delay: PublishDelay | undefined): void
  onRefusal(refusal: PublishRefusal): void
  onSettled(): void
  onRetry(): void
  onHold(hold: Hold): void
  /** A device published what only it can have done wrong. */
  onFault(fault: FoundFault): void
  onOverdue(): void
  onPruned(range: PrunedRange): void
  onTimeDoubted(): void
  /** A listener threw. */
  onFailure(error: unknown): void
  /** Why nothing more will come: an error, null for a quiet end, undefined while it may. */
  stopped(): Error | null | undefined
}

export async function openDeviceParts(parts: OpenDeviceParts): Promise<DeviceParts> {
  const { store, sealer, crypto, clock, identity } = parts
  const { userId, deviceId, keys } = identity
  const book = await openLogBook({ store, crypto, userId })
  const epochKeys = await openEpochKeys({ store, sealer, crypto, keys, userId })
  const localLog = await openLocalLog(store, deviceId)
  const voidEvents = await openVoidEvents({ store, book, log: localLog, onFailure: parts.onFailure })
  const lateEvents = createLateEvents({ store, log: localLog, onFailure: parts.onFailure })
  const freed = createPulse()
  const refusedContent = await openRefusedContent({ store, sealer, freed })
  const outbox = await openOutbox({ store, sealer, limits: parts.outboxLimits, kept: refusedContent, freed })
  const chain = await openOwnChain({ store, crypto, identity })
  const serverTime = await openServerTime({ store, clock })

  const refresh = async (upTo: number): Promise<void> => {
    const requests = parts.requests()
    if (requests === undefined) throw new SessionLostError('no session is up')
    await readAccount(requests.ask, book, epochKeys, upTo)
  }
  const checkpoints = await openCheckpoints({
    store,
    clock,
    ownDeviceId: deviceId,
    log: localLog,
    book,
    everyEvents: parts.checkpointEvery,
    readDeviceLog: refresh,
    unreceiptedChain: (deviceSeq) => chain.find(deviceSeq)?.chain,
  })
  const publisher = createPublisher({
    crypto,
    clock,
    serverTime,
    identity,
    outbox,
    refusedContent,
    chain,
    log: localLog,
    book,
    epochKeys,
    limits: DEFAULT_WINDOW_LIMITS,
    refreshDeviceLog: () => refresh(0),
    checkpointList: checkpoints.list,
    countEvents: checkpoints.countEvents,
    onReceipt: parts.onReceipt,
    onDelay: parts.onDelay,
    onRefusal: parts.onRefusal,
    onSettled: parts.onSettled,
    onRetry: parts.onRetry,
    onOverdue: parts.onOverdue,
    onTimeDoubted: parts.onTimeDoubted,
  })
  const holds = await openHolds({
    store,
    crypto,
    log: localLog,
    epochKeys,
    lateEvents,
    deviceLog: () => book.state,
    onHold: parts.onHold,
    onFault: parts.onFault,
    onFailure: parts.onFailure,
  })
  const receiver = createReceiver({
    crypto,
    ownDeviceId: deviceId,
    log: localLog,
    book,
    holds,
    checkpoints,
    lateEvents,
    unreceipted: () => chain.unreceipted.length,
    onPruned: parts.onPruned,
    readDeviceLog: refresh,
  })
  const reader = createEventReader({
    ownDeviceId: deviceId,
    log: localLog,
    epochKeys,
    isHidden: (event) => isVoidEvent(book.state, event) || holds.standing.isHidden(event),
    nowMs: serverTime.now,
    ownStreams: [CHECKPOINT_STREAM, PROFILE_STREAM, FAULT_STREAM],
    hasUnreceipted: () => chain.unreceipted.length > 0,
    stopped: parts.stopped,
  })
  const limits = { maxPayload: parts.maxPayload }
  return {
    identity,
    book,
    epochKeys,
    localLog,
    voidEvents,
    holds,
    lateEvents,
    outbox,
    refusedContent,
    chain,
    publisher,
    receiver,
    checkpoints,
    reader,
    serverTime,
    limits,
  }
}
