// Builds the client of a device over a store that already holds an account: device, engine and connector, wired.
// More than 300 lines: it is the one place where the parts of a client meet.

import { createEventId, DEFAULT_LIMITS, deviceIdOf, findDevice, isSameId } from '@valise/protocol'
import { addDevice } from './account/add-device.ts'
import { createAddedDevices } from './account/added-devices.ts'
import { type AppendParts, createAttempt } from './account/append-entry.ts'
import { closeAccount } from './account/close-account.ts'
import { createEpochWatch } from './account/epoch-age.ts'
import { forgetRevoked } from './account/forget-account.ts'
import { changeRole, replaceRecovery, revokeDevices, rotateEpoch } from './account/manage-devices.ts'
import { encodeProfile, PROFILE_STREAM, PROFILE_TYPE } from './account/profile.ts'
import { type Ask, DeviceRevokedError } from './account/sync.ts'
import { ClientStoppedError, refusedFor, type StopCause } from './alarm.ts'
import { createBackoff } from './backoff.ts'
import { CHECKPOINT_STREAM, CHECKPOINT_TYPE, encodeCheckpoint } from './checkpoint.ts'
import type { Client, ClientParts, ClientState, Resync } from './client.ts'
import { type Connector, createConnector } from './connection/connector.ts'
import { isUndecided, RequestRefusedError, SessionLostError } from './connection/requests.ts'
import { openSession } from './connection/session.ts'
import { type DeviceParts, openDeviceParts } from './device-parts.ts'
import { createEngine, type Engine } from './engine.ts'
import { createPresenceView } from './presence.ts'
import { checkContentSize, checkStreamName, composeItem } from './publish/compose.ts'
import { DEFAULT_OUTBOX_LIMITS } from './publish/outbox.ts'
import { isOwnStream } from './publish/own-streams.ts'
import { PublishError } from './publish/publish-error.ts'
import type { PublishReceipt } from './publish/publisher.ts'
import type { PublishRefusal } from './publish/repair.ts'
import { notePruned, readPruned } from './receive/pruned-ranges.ts'
import { rememberLostLog } from './restore/lost-log.ts'
import { createListeners, createPulse } from './signal.ts'
import { createExpirer } from './store/expirer.ts'
import { savePosition } from './store/positions.ts'
import { createNameKeeper } from './store/stream-names.ts'

export const DEFAULT_CHECKPOINT_EVERY = 200
const TIME_DOUBTED = 'The server says that a lifetime has ended which by its own time has not; it is asked again'
const RECONNECT_BASE_MS = 250
const RECONNECT_CAP_MS = 30_000

/** Rejects with an `AlarmError` when what is stored does not hold. */
export async function openClient(parts: ClientParts): Promise<Client> {
  const { store, sealer, crypto, clock, identity, log } = parts
  const failing = (error: unknown): void => log({ level: 'error', event: 'client.listener.fail', error })
  const receiptListeners = createListeners<PublishReceipt>(failing)
  const refusalListeners = createListeners<PublishRefusal>(failing)
  const resyncListeners = createListeners<Resync>(failing)
  const presence = createPresenceView(failing)
  const stateListeners = createListeners<ClientState>(failing)
  /** Fires when anything changes that somebody may wait for. */
  const changed = createPulse()
  let phase: { type: 'replaying'; head: number } | { type: 'live' } | undefined
  let isCheckpointQueued = false
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
      if (!isOwnStream(receipt.streamName)) receiptListeners.emit(receipt)
    },
    onRefusal: (refusal) => {
      log({ level: 'warn', event: 'client.event.refuse', code: refusal.code })
      if (!isOwnStream(refusal.streamName)) refusalListeners.emit(refusal)
    },
    onSettled: changed.fire,
    onRetry: () => engine.wake(),
    onTimeDoubted: () => connector.session?.abandon({ type: 'given_up', text: TIME_DOUBTED }),
    onOverdue: () => connector.session?.abandon({ type: 'silent' }),
    onFailure: failing,
    stopped: () => {
      const cause = stopCause()
      if (cause === undefined) return undefined
      return cause.type === 'closed' ? null : new ClientStoppedError(cause)
    },
  })
  const addedDevices = await createAddedDevices({ store, book: device.book, ownDeviceId: identity.deviceId, failing })
  const { outbox, refusedContent, chain, localLog, checkpoints, reader, epochKeys, serverTime } = device

  const state = (): ClientState => {
    const { cursor } = localLog.progress
    if (connector.state.type !== 'connected') return connector.state
    if (phase === undefined) return { type: 'connecting' }
    return phase.type === 'live' ? { type: 'live', cursor } : { type: 'replaying', cursor, head: phase.head }
  }
  const stopCause = (): StopCause | undefined =>
    connector.state.type === 'stopped' ? connector.state.cause : undefined
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
  const until = async (isFulfilled: () => boolean, signal: AbortSignal | undefined): Promise<void> => {
    while (!isFulfilled()) {
      const cause = stopCause()
      if (cause !== undefined) throw new ClientStoppedError(cause)
      await changed.next(signal)
    }
  }
  /** Rejects as `until` does. */
  const pause = async (forMs: number, signal: AbortSignal | undefined): Promise<void> => {
    let isOver = false
    const cancelTimer = clock.after(forMs, () => {
      isOver = true
      changed.fire()
    })
    await until(() => isOver, signal).finally(cancelTimer)
  }

  const publishOwn = async (streamName: string, type: string, body: Uint8Array): Promise<void> => {
    const { maxPayload } = device.limits
    await outbox.addAtOnce(composeItem({ crypto, clock, serverTime, maxPayload }, { streamName, type, body, ttlS: 0 }))
    engine.wake()
  }
  const publishCheckpoint = async (isReconnect: boolean): Promise<void> => {
    const due = isCheckpointQueued ? undefined : checkpoints.due(isReconnect)
    if (due === undefined) return
    isCheckpointQueued = true
    try {
      await publishOwn(CHECKPOINT_STREAM, CHECKPOINT_TYPE, encodeCheckpoint(due))
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

  /** Signs something into the device log. A session that is lost meanwhile is waited for: the next finds what is done. */
  const manage = async <Result>(
    isReady: () => boolean,
    task: (manager: AppendParts, ask: Ask) => Promise<Result>,
    signal: AbortSignal | undefined,
  ): Promise<Result> => {
    const manager = { crypto, clock, identity: identity.keys, book: device.book, epochKeys, attempt: createAttempt() }
    for (;;) {
      await until(() => isReady() && engine.requests !== undefined, signal)
      try {
        return await engine.guard(async () => {
          const { requests } = engine
          if (requests === undefined) throw new SessionLostError('the session ended')
          return task(manager, requests.ask)
        })
      } catch (error) {
        if (error instanceof DeviceRevokedError) throw new ClientStoppedError(refusedFor('device_revoked'))
        if (!isUndecided(error)) throw error
        if (error instanceof RequestRefusedError) await pause(error.answer.retry_after_ms ?? 0, signal)
      }
    }
  }
  const isUp = (): boolean => phase !== undefined
  const isLive = (): boolean => phase?.type === 'live'

  const engine: Engine = createEngine({
    device,
    clock,
    log,
    random: parts.random,
    connector: () => connector,
    onReplaying: (head) => {
      expirer.start()
      // The new session of a live client only goes on where the one before it stood.
      if (phase?.type === 'live') return
      phase = { type: 'replaying', head }
      noteState()
    },
    onLive: () => {
      backoff.reset()
      if (phase?.type === 'live') return
      phase = { type: 'live' }
      noteState()
      epochWatch.consider()
    },
    onRevoked: forget,
    onDeviceLog: () => epochWatch.consider(),
    onPresence: presence.apply,
    onResync: async (range) => {
      await notePruned(store, range)
      resyncListeners.emit({ reason: 'retention', ...range })
    },
    onCheckpointMoment: (isReconnect) => {
      publishCheckpoint(isReconnect).catch(failing)
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
    guard: engine.guard,
    rotate: async (isDue) => {
      const isRotated = await manage(isLive, (manager, ask) => rotateEpoch(manager, ask, isDue), undefined)
      if (isRotated) log({ level: 'info', event: 'client.epoch.rotate', epoch: device.book.require().epoch.n })
    },
  })
  const backoff = createBackoff({ baseMs: RECONNECT_BASE_MS, capMs: RECONNECT_CAP_MS, random: parts.random })
  const connector: Connector = createConnector({
    clock,
    backoff,
    openSession: (handlers) =>
      openSession({
        transport: parts.transport,
        server: identity.server,
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
      epochWatch.cancel()
      presence.forget()
      engine.onGone()
    },
    onState: (next) => {
      if (next.type === 'stopped') {
        outbox.giveUp(stoppedError(next.cause))
        remembering = rememberAlarm().catch(failing)
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
    flush: (signal) => until(() => outbox.count === 0 && chain.unreceipted.length === 0, signal),
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
    onResync: resyncListeners.add,
    resyncsAfter: async (after) => (await readPruned(store, after)).map((range) => ({ reason: 'retention', ...range })),
    onPresence: presence.add,
    onDeviceAdded: addedDevices.add,
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
        return await manage(isLive, (manager, ask) => revokeDevices(manager, ask, revocation), signal)
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
    replaceRecovery: (keys, signal) => manage(isUp, (manager, ask) => replaceRecovery(manager, ask, keys), signal),
    changeRole: (change, signal) => manage(isUp, (manager, ask) => changeRole(manager, ask, change), signal),
    onVoided: device.voidEvents.add,
    openPairing: async ({ mailboxId, seatKey }, signal) => {
      for (;;) {
        await until(() => isUp() && engine.requests !== undefined, signal)
        try {
          const answer = await engine.requests?.ask({ type: 'open_pairing', mailbox_id: mailboxId, seat_key: seatKey })
          if (answer?.type !== 'pairing_opened') throw new SessionLostError('the session ended')
          return { nameplate: answer.nameplate, lifetimeMs: answer.lifetime_ms }
        } catch (error) {
          const isLimited = error instanceof RequestRefusedError && error.answer.code === 'rate_limited'
          if (isLimited || !isUndecided(error)) throw error
          if (error instanceof RequestRefusedError) await pause(error.answer.retry_after_ms ?? 0, signal)
        }
      }
    },
    closeAccount: (signal) => manage(isUp, closeAccount, signal),
    checkLiveness: connector.checkLiveness,
    publishProfile: (profile = identity) => publishOwn(PROFILE_STREAM, PROFILE_TYPE, encodeProfile(profile)),
    close: async () => {
      connector.stop({ type: 'closed' })
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
const isRevocation = (error: unknown): boolean =>
  error instanceof ClientStoppedError && error.stopCause.type === 'refused' && error.stopCause.code === 'device_revoked'
