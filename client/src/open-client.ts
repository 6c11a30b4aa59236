// Builds the client of a device over a store that already holds an account: device, engine and connector, wired.
// More than 300 lines: it is the one place where the parts of a client meet.

import {
  createEventId,
  DEFAULT_LIMITS,
  type DeviceLogState,
  deviceIdOf,
  findDevice,
  formatUuid,
  isActive,
  isSameId,
} from '@valise/protocol'
import { AccountError, changesWait, SUSPENDED } from './account/account-error.ts'
import { addDevice } from './account/add-device.ts'
import { createAddedDevices } from './account/added-devices.ts'
import { type AppendParts, createAttempt } from './account/append-entry.ts'
import { createBoxFaults } from './account/box-faults.ts'
import { cancelPending, nothingPending, replaceRecovery, settleRecovery } from './account/change-recovery.ts'
import { closeAccount } from './account/close-account.ts'
import { createEpochWatch } from './account/epoch-age.ts'
import { forgetAccount, forgetRevoked } from './account/forget-account.ts'
import { changeRole, revokeDevices, rotateEpoch, suspendDevice } from './account/manage-devices.ts'
import { openPendingWatch } from './account/pending.ts'
import { openPinKeeper } from './account/pin-keeper.ts'
import { encodeProfile, PROFILE_STREAM, PROFILE_TYPE } from './account/profile.ts'
import { createSettleOwn } from './account/settle-own.ts'
import { createSuspendFaulty, type Suspension } from './account/suspend-faulty.ts'
import { type Ask, DeviceRevokedError, readAccount } from './account/sync.ts'
import { ClientStoppedError, refusedFor, type StopCause } from './alarm.ts'
import { createBackoff } from './backoff.ts'
import { CHECKPOINT_STREAM, CHECKPOINT_TYPE } from './checkpoint.ts'
import type { Client, ClientParts, ClientState, Resync, StorageDisplacement } from './client.ts'
import { boundLog } from './client-log.ts'
import { type Connector, createConnector } from './connection/connector.ts'
import { createEagerLimit } from './connection/eager-limit.ts'
import { isUndecided, RequestRefusedError, SessionLostError } from './connection/requests.ts'
import { openSession } from './connection/session.ts'
import { type DeviceParts, openDeviceParts } from './device-parts.ts'
import { createEngine, type Engine } from './engine.ts'
import { createPresenceView } from './presence.ts'
import { checkContentSize, checkContentType, checkStreamName, composeItem } from './publish/compose.ts'
import type { PublishDelay } from './publish/delay.ts'
import { DEFAULT_OUTBOX_LIMITS } from './publish/outbox.ts'
import { PublishError } from './publish/publish-error.ts'
import type { PublishReceipt } from './publish/publisher.ts'
import type { PublishRefusal } from './publish/repair.ts'
import { encodeReportPart, FAULT_STREAM, FAULT_TYPE, splitReport } from './receive/fault-report.ts'
import type { FoundFault } from './receive/holds.ts'
import { readPruned } from './receive/pruned-ranges.ts'
import { rememberLostLog } from './restore/lost-log.ts'
import { isOwnName } from './sealing/content.ts'
import { DEFAULT_WAIT_MS } from './server-times.ts'
import { createListeners, createPulse } from './signal.ts'
import { createExpirer } from './store/expirer.ts'
import { savePosition } from './store/positions.ts'
import { createNameKeeper } from './store/stream-names.ts'

export const DEFAULT_CHECKPOINT_EVERY = 200
const REPORT_OVERHEAD_BYTES = 128
const TIME_DOUBTED = 'The server says that a lifetime has ended which by its own time has not; it is asked again'
const RECONNECT_BASE_MS = 250
const RECONNECT_CAP_MS = 30_000
/** A device that was live for so long begins its back-off from the start; a greeting alone proves nothing. */
const STEADY_MS = 30_000

/** Rejects with an `AlarmError` when what is stored does not hold. */
export async function openClient(parts: ClientParts): Promise<Client> {
  const { store, sealer, crypto, clock, identity } = parts
  const log = boundLog(parts.log, clock)
  const failing = (error: unknown): void => log({ level: 'error', event: 'client.listener.fail', error })
  const receiptListeners = createListeners<PublishReceipt>(failing)
  const refusalListeners = createListeners<PublishRefusal>(failing)
  const delayListeners = createListeners<PublishDelay | undefined>(failing)
  const resyncListeners = createListeners<Resync>(failing)
  const storageListeners = createListeners<StorageDisplacement>(failing)
  const presence = createPresenceView(failing, (deviceId) => {
    const known = findDevice(device.book.state, deviceId)
    return known !== undefined && isActive(known)
  })
  const stateListeners = createListeners<ClientState>(failing)
  /** Fires when anything changes that somebody may wait for. */
  const changed = createPulse()
  let phase: { type: 'replaying'; head: number } | { type: 'live' } | { type: 'managing' } | undefined
  let isCheckpointQueued = false
  let cancelSteady: (() => void) | undefined
  let remembering = Promise.resolve()

  const device: DeviceParts = await openDeviceParts({
    store,
    sealer,
    crypto,
    clock,
    identity,
    outboxLimits: parts.outboxLimits ?? DEFAULT_OUTBOX_LIMITS,
    checkpointEvery: parts.checkpointEvery ?? DEFAULT_CHECKPOINT_EVERY,
    maxPayload: DEFAULT_LIMITS.max_payload,
    requests: () => engine.requests,
    onReceipt: (receipt) => {
      if (!isOwnName(receipt.streamName)) receiptListeners.emit(receipt)
    },
    onDelay: delayListeners.emit,
    onRefusal: (refusal) => {
      log({ level: 'warn', event: 'client.event.refuse', code: refusal.code })
      if (!isOwnName(refusal.streamName)) refusalListeners.emit(refusal)
    },
    onSettled: changed.fire,
    onRetry: () => engine.wake(),
    onHold: ({ deviceId, kind, fromSeq }) => {
      log({ level: 'warn', event: 'client.device.hold', device: formatUuid(deviceId), kind, device_seq: fromSeq })
      if (phase?.type === 'live') suspendFaulty.consider()
    },
    onFault: (fault) => {
      if (needsReport(fault)) publishReport(fault).catch(failing)
    },
    onTimeDoubted: () => connector.session?.abandon({ type: 'given_up', text: TIME_DOUBTED }),
    onOverdue: () => connector.session?.abandon({ type: 'silent' }),
    onPruned: (range) => resyncListeners.emit({ reason: 'retention', ...range }),
    onFailure: failing,
    stopped: () => {
      const cause = stopCause()
      if (cause === undefined) return undefined
      return cause.type === 'closed' ? null : new ClientStoppedError(cause)
    },
  })
  const { transport } = parts
  const onFollowed = (): void => log({ level: 'warn', event: 'client.server-key.follow' })
  const pin = await openPinKeeper({ store, sealer, crypto, transport, server: identity.server, failing, onFollowed })
  const addedDevices = await createAddedDevices({ store, book: device.book, ownDeviceId: identity.deviceId, failing })
  const { outbox, refusedContent, chain, localLog, checkpoints, reader, epochKeys, serverTime } = device
  const pending = await openPendingWatch({
    store,
    clock,
    serverTime,
    book: device.book,
    ownDeviceId: identity.deviceId,
    isLive: () => phase?.type === 'live',
    onFailure: failing,
  })

  const state = (): ClientState => {
    const { cursor } = localLog.progress
    const cause = stopCause()
    if (cause !== undefined) return { type: 'stopped', cause }
    if (connector.state.type !== 'connected') return connector.state
    if (phase === undefined) return { type: 'connecting' }
    return phase.type === 'replaying' ? { type: 'replaying', cursor, head: phase.head } : { type: 'live', cursor }
  }
  /** Why not even devices and keys can be changed any more. */
  const endCause = (): StopCause | undefined => (connector.state.type === 'stopped' ? connector.state.cause : undefined)
  const stopCause = (): StopCause | undefined => {
    const end = endCause()
    return end?.type === 'refused' ? end : (engine.halted ?? end)
  }
  const rememberAlarm = async (): Promise<void> => {
    const cause = stopCause()
    const operation = cause?.type === 'alarm' ? rememberLostLog(cause.alarm, clock.now()) : undefined
    if (operation !== undefined) await store.batch([operation])
  }
  const noteState = (): void => {
    stateListeners.emit(state())
    changed.fire()
    localLog.changed.fire()
  }
  /** Waits until the condition holds; rejects when the client stops for good. */
  const until = async (
    isFulfilled: () => boolean,
    signal: AbortSignal | undefined,
    causeOfEnd: () => StopCause | undefined = stopCause,
  ): Promise<void> => {
    while (!isFulfilled()) {
      const cause = causeOfEnd()
      if (cause !== undefined) throw new ClientStoppedError(cause)
      await changed.next(signal)
    }
  }
  /** Rejects when nothing can be asked any more. */
  const pause = async (forMs: number, signal: AbortSignal | undefined): Promise<void> => {
    let isOver = false
    const cancelTimer = clock.after(forMs, () => {
      isOver = true
      changed.fire()
    })
    await until(() => isOver, signal, endCause).finally(cancelTimer)
  }

  const publishOwn = async (streamName: string, type: string, body: Uint8Array): Promise<void> => {
    const { maxPayload } = device.limits
    await outbox.addAtOnce(composeItem({ crypto, clock, serverTime, maxPayload }, { streamName, type, body, ttlS: 0 }))
    engine.wake()
  }
  /** Others may only ever get the leaf of what has a lifetime, and nobody looks for a signature that a later one covers. */
  const needsReport = ({ hold, event }: FoundFault): boolean => event.ttlS > 0 || hold.kind === 'signature'
  const publishReport = async ({ event, wire }: FoundFault): Promise<void> => {
    const { deviceId, deviceSeq } = event
    // Room for the content's type, time and lengths.
    const maxBody = device.limits.maxPayload - REPORT_OVERHEAD_BYTES
    for (const part of splitReport({ deviceId, deviceSeq, wire }, maxBody)) {
      await publishOwn(FAULT_STREAM, FAULT_TYPE, encodeReportPart(part))
    }
  }
  const publishCheckpoint = async (isReconnect: boolean): Promise<void> => {
    if (isCheckpointQueued || !checkpoints.isDue(isReconnect)) return
    isCheckpointQueued = true
    try {
      await publishOwn(CHECKPOINT_STREAM, CHECKPOINT_TYPE, new Uint8Array(0))
      await engine.guard(checkpoints.published)
    } finally {
      isCheckpointQueued = false
    }
  }
  const rememberName = createNameKeeper({ store, sealer, epochKeys })

  /** The verified log says that this device is one no more: it stops, and keeps nothing that opens or proves anything. */
  const forget = (): void => {
    connector.stop(refusedFor('device_revoked'))
    const erase = async (): Promise<void> => {
      await forgetRevoked(store, identity, device.book.require())
      epochKeys.forget()
      await parts.onErased?.()
    }
    engine.lane.run(erase).catch(failing)
  }

  /** The server carried out the deletion that this device had asked for: as after one at once, nothing stays here. */
  const forgetClosed = (): void => {
    const own = pending.list().find(({ kind, isOwn }) => kind === 'close' && isOwn)
    if (own === undefined || clock.now() < own.dueAtMs) return
    const erase = async (): Promise<void> => {
      epochKeys.forget()
      await forgetAccount(store)
      await parts.onErased?.()
    }
    engine.lane.run(erase).catch(failing)
  }

  /** Signs something into the device log. A session that is lost meanwhile is waited for: the next finds what is done. */
  const manage = async <Result>(
    isReady: () => boolean,
    task: (manager: AppendParts, ask: Ask) => Promise<Result>,
    signal: AbortSignal | undefined,
  ): Promise<Result> => {
    const manager = { crypto, clock, identity: identity.keys, book: device.book, epochKeys, attempt: createAttempt() }
    for (;;) {
      await until(() => isReady() && engine.requests !== undefined, signal, endCause)
      try {
        return await engine.guard(async () => {
          const { requests } = engine
          if (requests === undefined) throw new SessionLostError('the session ended')
          return task(manager, requests.ask)
        })
      } catch (error) {
        if (error instanceof DeviceRevokedError) throw new ClientStoppedError(refusedFor('device_revoked'))
        if (!isUndecided(error)) throw error
        if (error instanceof RequestRefusedError) await waitAfter(error, signal)
      }
    }
  }
  /** Until the server may be asked again. When the caller's time ends first, the refusal says more than that. */
  const waitAfter = async (refusal: RequestRefusedError, signal: AbortSignal | undefined): Promise<void> => {
    const { code, retry_after_ms = DEFAULT_WAIT_MS } = refusal.answer
    await pause(retry_after_ms, signal).catch((error: unknown) => {
      const isTimeOver = error instanceof DOMException && error.name === 'TimeoutError'
      if (isTimeOver && (code === 'rate_limited' || code === 'storage_low')) {
        throw changesWait(code, retry_after_ms, refusal)
      }
      throw error
    })
  }
  const suspend = async (suspension: Suspension): Promise<void> => {
    const isDone = await manage(hasRead, (manager, ask) => suspendDevice(manager, ask, suspension), undefined)
    if (isDone) log({ level: 'warn', event: 'client.device.suspend', device: formatUuid(suspension.deviceId) })
  }
  const rotate = async (isDue: (state: DeviceLogState) => boolean): Promise<void> => {
    const isRotated = await manage(isLive, (manager, ask) => rotateEpoch(manager, ask, isDue), undefined)
    if (isRotated) log({ level: 'info', event: 'client.epoch.rotate', epoch: device.book.require().epoch.n })
  }
  /** Keys may be too old, may not open, or may have been sealed falsely. */
  const considerKeys = (): void => {
    epochWatch.consider()
    boxFaults.consider()
  }
  const isUp = (): boolean => phase !== undefined
  const isSuspended = (): boolean => findDevice(device.book.state, identity.deviceId)?.status.type === 'suspended'
  const isLive = (): boolean => phase?.type === 'live'
  /** What can be read is read: all of it, or what came before the alarm. */
  const hasRead = (): boolean => isLive() || phase?.type === 'managing'

  const eagerLimit = createEagerLimit({ clock, random: parts.random })
  const engine: Engine = createEngine({
    device,
    clock,
    log,
    random: parts.random,
    eagerLimit,
    connector: () => connector,
    onReplaying: (head) => {
      expirer.start()
      // The new session of a live client only goes on where the one before it stood.
      if (phase?.type === 'live') return
      phase = { type: 'replaying', head }
      noteState()
    },
    onLive: () => {
      cancelSteady ??= clock.after(STEADY_MS, backoff.reset)
      if (phase?.type === 'live') return
      phase = { type: 'live' }
      noteState()
      considerKeys()
      suspendFaulty.consider()
      settleOwn.consider()
    },
    onHalted: () => {
      const cause = stopCause()
      if (cause !== undefined) outbox.giveUp(stoppedError(cause))
      remembering = rememberAlarm().catch(failing)
      noteState()
    },
    onManaging: () => {
      phase = { type: 'managing' }
      backoff.reset()
      changed.fire()
    },
    onRevoked: forget,
    onDeviceLog: () => {
      presence.deviceLogGrew()
      considerKeys()
    },
    onPresence: presence.apply,
    onStorageNotice: ({ device_id, bytes }) => {
      if (findDevice(device.book.state, device_id) === undefined) return
      storageListeners.emit({ deviceId: device_id, bytes })
    },
    onCheckpointMoment: (isReconnect) => {
      publishCheckpoint(isReconnect).catch(failing)
    },
  })
  const suspendFaulty = createSuspendFaulty({
    crypto,
    ownDeviceId: identity.deviceId,
    userId: identity.userId,
    standing: device.holds.standing,
    log: localLog,
    deviceLog: device.book.require,
    suspend,
  })
  const boxFaults = createBoxFaults({
    store,
    crypto,
    ownDeviceId: identity.deviceId,
    book: device.book,
    epochKeys,
    log: localLog,
    isLive,
    onFault: ({ signer, logSeq }) =>
      log({ level: 'warn', event: 'client.box.distrust', device: formatUuid(signer), log_seq: logSeq }),
    suspend,
    rotate,
    onFailure: (error) => {
      // What kept an entry from being stored is logged where it happened.
      if (!isOfSession(error)) failing(error)
    },
  })
  const settleOwn = createSettleOwn({
    clock,
    serverTime,
    pending,
    settle: async (hash) => {
      await manage(isLive, (manager, ask) => settleRecovery(manager, ask, hash), undefined)
      log({ level: 'info', event: 'client.phrase.settle' })
    },
  })
  const expirer = createExpirer({
    store,
    crypto,
    clock,
    log: localLog,
    nowMs: serverTime.now,
    run: engine.guard,
    onFailure: failing,
  })
  const epochWatch = createEpochWatch({
    store,
    clock,
    random: parts.random,
    book: device.book,
    ownDeviceId: identity.deviceId,
    canOpen: (n) => epochKeys.secretOf(n) !== undefined,
    guard: engine.guard,
    rotate,
  })
  // Whatever made the log grow: keys may have come with it that something waits for.
  device.book.onAppend(async () => ({
    also: [],
    onStored: () => {
      // A suspension ends what waits for receipts.
      changed.fire()
      const goOn = async (): Promise<void> => {
        await device.holds.retry()
        if (phase !== undefined) settleOwn.consider()
        if (phase?.type === 'live') considerKeys()
      }
      engine.guard(goOn).catch(() => {})
      engine.wake()
    },
  }))
  const backoff = createBackoff({ baseMs: RECONNECT_BASE_MS, capMs: RECONNECT_CAP_MS, random: parts.random })
  const connector: Connector = createConnector({
    clock,
    backoff,
    eagerLimit,
    openSession: (handlers) =>
      openSession({
        transport,
        pin,
        crypto,
        signer: identity.keys.signer,
        identity: {
          mode: 'device',
          userId: identity.userId,
          deviceId: identity.deviceId,
          publicKey: identity.keys.signer.publicKey,
          logSeq: device.book.state?.seq ?? 0,
          logHead: device.book.state?.head ?? new Uint8Array(32),
          canRekey: true,
          clientInfo: parts.clientInfo,
        },
        clock,
        handlers,
      }),
    onEstablished: engine.onEstablished,
    onMessage: engine.onMessage,
    onRekeyed: engine.wake,
    onGone: () => {
      phase = undefined
      cancelSteady?.()
      cancelSteady = undefined
      epochWatch.cancel()
      suspendFaulty.reset()
      boxFaults.reset()
      settleOwn.cancel()
      presence.forget()
      engine.onGone()
    },
    onState: (next) => {
      // An alarm stands, and was told: what becomes of the session changes nothing for who reads or publishes.
      if (engine.halted !== undefined && stopCause() === engine.halted) return changed.fire()
      if (next.type === 'stopped') {
        outbox.giveUp(stoppedError(next.cause))
        remembering = rememberAlarm().catch(failing)
        if (next.cause.type === 'refused' && next.cause.code === 'account_deleted') forgetClosed()
      }
      noteState()
    },
  })

  const own = findDevice(device.book.state, identity.deviceId)
  // It stopped between the entry and the erasing.
  if (own?.status.type === 'revoked') forget()
  else expirer.start()

  return {
    start: connector.start,
    publish: async (streamName, { type, body }, { ttlS = 0, atMs, position, signal } = {}) => {
      checkStreamName(streamName)
      checkContentType(type)
      const item = composeItem(
        { crypto, clock, serverTime, maxPayload: device.limits.maxPayload },
        { streamName, type, body, ttlS, atMs },
      )
      const also = position === undefined ? [] : [savePosition(position.name, position.userSeq)]
      const cause = stopCause()
      if (cause !== undefined) throw stoppedError(cause)
      try {
        // Admitted in the order of the calls: nothing is waited for before the outbox has the item.
        await Promise.all([outbox.add(item, signal, also), rememberName(streamName)])
      } catch (error) {
        if (signal?.aborted !== true) throw error
        throw new PublishError('aborted', 'Publishing was given up before the outbox had room.', { cause: error })
      }
      engine.wake()
      return { eventId: item.eventId }
    },
    flush: async (signal) => {
      const isDone = (): boolean => outbox.count === 0 && chain.unreceipted.length === 0
      await until(() => isDone() || isSuspended(), signal)
      if (!isDone()) throw new PublishError('suspended', `${SUSPENDED} What it had to send stays in its outbox.`)
    },
    refused: {
      get count() {
        return refusedContent.count
      },
      get bytes() {
        return refusedContent.bytes
      },
      list: refusedContent.list,
      retry: async (refusedId) => {
        const eventId = createEventId(serverTime.now(), crypto.randomBytes(10))
        const isRetried = await refusedContent.take(refusedId, async (item, removal) => {
          const cause = stopCause()
          if (cause !== undefined) throw stoppedError(cause)
          checkContentSize(item.content, device.limits.maxPayload)
          await outbox.addAtOnce({ ...item, eventId }, [removal])
        })
        if (!isRetried) return undefined
        engine.wake()
        return { eventId }
      },
      discard: (refusedId) =>
        refusedContent.take(refusedId, async (_item, removal) => {
          await store.batch([removal])
          await store.compact?.(removal.key, removal.key)
        }),
    },
    onReceipt: receiptListeners.add,
    onRefused: refusalListeners.add,
    onPublishDelayed: delayListeners.add,
    onResync: resyncListeners.add,
    resyncsAfter: async (after) => (await readPruned(store, after)).map((range) => ({ reason: 'retention', ...range })),
    onPresence: presence.add,
    onDeviceAdded: addedDevices.add,
    onHeld: device.holds.add,
    onStorageDisplaced: storageListeners.add,
    onServerKeyMoved: pin.onMoved,
    serverPin: () => pin.current,
    refreshServerPin: pin.refresh,
    trustServer: pin.trust,
    events: (streamName, options = {}) => {
      if (streamName !== undefined) rememberName(streamName).catch(failing)
      return reader.follow(streamName, options)
    },
    state,
    onState: stateListeners.add,
    whenLive: (signal) => until(() => state().type === 'live', signal),
    whenReady: (signal) => until(() => phase !== undefined, signal),
    cursor: () => localLog.progress.cursor,
    addDevice: (newDevice, signal) =>
      addedDevices.admit(deviceIdOf(crypto, newDevice.record), () =>
        manage(isUp, (manager, ask) => addDevice(manager, ask, newDevice), signal),
      ),
    // Live: what the device to be revoked has published is applied here as far as the log goes, and counts.
    revokeDevices: async ({ deviceIds, reason }, signal) => {
      const revocation = { deviceIds, reason, cutOf: localLog.deviceHead }
      const isOwn = deviceIds.some((deviceId) => isSameId(deviceId, identity.deviceId))
      try {
        return await manage(hasRead, (manager, ask) => revokeDevices(manager, ask, revocation), signal)
      } catch (error) {
        if (isOwn && isRevocation(error)) return true
        throw error
      }
    },
    rotateEpoch: async (signal) => {
      const before = device.book.require().epoch.n
      await manage(isUp, (manager, ask) => rotateEpoch(manager, ask, (state) => state.epoch.n <= before), signal)
      return device.book.require().epoch.n
    },
    replaceRecovery: async (next, signal) => {
      try {
        return await manage(isUp, (manager, ask) => replaceRecovery(manager, ask, next), signal)
      } finally {
        // Installed or given up: a proof that is left could install a phrase that nobody wrote down.
        next.heirProof?.fill(0)
      }
    },
    settleRecovery: async (signal) => {
      await manage(
        isUp,
        async (manager, ask) => {
          await readAccount(ask, device.book, epochKeys)
          const waiting = device.book.require().pendingRecovery
          // This device's own attempt may stand already, its answer lost.
          if (waiting === undefined && manager.attempt.isStored(device.book)) return
          if (waiting === undefined) throw nothingPending()
          await settleRecovery(manager, ask, waiting.hash)
        },
        signal,
      )
    },
    cancelPending: (kind, signal) =>
      manage(
        isUp,
        async (manager, ask) => {
          await readAccount(ask, device.book, epochKeys)
          const waiting = pending.list().find((each) => each.kind === kind)
          if (waiting !== undefined) return cancelPending(manager, ask, waiting.hash)
          return manager.attempt.isStored(device.book)
        },
        signal,
      ),
    pending: pending.list,
    onPending: pending.add,
    changeRole: (change, signal) => manage(isUp, (manager, ask) => changeRole(manager, ask, change), signal),
    onVoided: device.voidEvents.add,
    onLate: device.lateEvents.add,
    latePassedBy: device.lateEvents.passedBy,
    openPairing: async ({ mailboxId, seatKey }, signal) => {
      for (;;) {
        await until(() => isUp() && engine.requests !== undefined, signal, endCause)
        try {
          const answer = await engine.requests?.ask({ type: 'open_pairing', mailbox_id: mailboxId, seat_key: seatKey })
          if (answer?.type !== 'pairing_opened') throw new SessionLostError('the session ended')
          return { nameplate: answer.nameplate, lifetimeMs: answer.lifetime_ms }
        } catch (error) {
          const isLimited = error instanceof RequestRefusedError && error.answer.code === 'rate_limited'
          if (isLimited || !isUndecided(error)) throw error
          if (error instanceof RequestRefusedError) await pause(error.answer.retry_after_ms ?? DEFAULT_WAIT_MS, signal)
        }
      }
    },
    closeAccount: (phrase, signal) => manage(isUp, (manager, ask) => closeAccount(manager, ask, phrase), signal),
    checkLiveness: connector.checkLiveness,
    publishProfile: (profile = identity) => publishOwn(PROFILE_STREAM, PROFILE_TYPE, encodeProfile(profile)),
    close: async () => {
      connector.stop({ type: 'closed' })
      boxFaults.close()
      await expirer.close()
      await engine.lane.idle()
      await remembering
    },
    device,
  }
}

const stoppedError = (stopCause: StopCause): PublishError => {
  const cause = new ClientStoppedError(stopCause)
  return new PublishError('stopped', cause.message, { cause })
}
/** What ends with the session, or what the log refuses: told where it happened. */
const isOfSession = (error: unknown): boolean => error instanceof ClientStoppedError || error instanceof AccountError
const isRevocation = (error: unknown): boolean =>
  error instanceof ClientStoppedError && error.stopCause.type === 'refused' && error.stopCause.code === 'device_revoked'
