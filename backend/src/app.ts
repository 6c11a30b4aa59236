// The composition root: builds every part from the configuration, in order, and unwinds them in reverse. Nothing else
// builds parts; nothing here decides anything.
// More than 300 lines: it is the one list of all parts, read from top to bottom.

import type { IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { PENDING_MS, toBase64Url, toHex } from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { createAdminToken, writeAdminAccess } from './admin/access.ts'
import { ADMIN_COMMANDS } from './admin/commands.ts'
import { createServerAudit } from './audit/server-audit.ts'
import { describeStart } from './audit/start-note.ts'
import type { Bus } from './bus/bus.ts'
import { createLocalBus } from './bus/local-bus.ts'
import { createPaced } from './bus/paced.ts'
import { openRedisBus } from './bus/redis-bus.ts'
import type { Config } from './config.ts'
import { readMigrationState, runMigrations } from './db/migrate.ts'
import { openPglite } from './db/pglite.ts'
import { type Database, isRefusedData, openPostgres } from './db/postgres.ts'
import { readDeviceLog, readLogHashes } from './db/queries/device-log.ts'
import { deviceKeyText, findDeviceForSession, findDevicesForSessions, saveCursor } from './db/queries/devices.ts'
import { dropLinkedEnvelopes, dropReadEnvelopes, readEnvelopes } from './db/queries/envelopes.ts'
import { appendRuns, findStoredEvent, readChains, readEventsAfter, readHeads } from './db/queries/events.ts'
import { deleteExpiredInvitations } from './db/queries/invitations.ts'
import { deleteExpiredMailboxes, postMailboxMessage, readMailboxMessage } from './db/queries/mailboxes.ts'
import { deleteOldUses } from './db/queries/pairing-limits.ts'
import { deleteExpiredPairings } from './db/queries/pairing-mailboxes.ts'
import { closeDueAccounts } from './db/queries/pending-closes.ts'
import { readLogEpoch } from './db/queries/server-state.ts'
import {
  beginFreeSessions,
  beginSession,
  confirmSessions,
  findEndedSessions,
  noteDeviceSeen,
} from './db/queries/sessions.ts'
import { tryAppend } from './db/queries/try-append.ts'
import { findUser, readLogSeqs } from './db/queries/users.ts'
import { createAccounts } from './devices/accounts.ts'
import { createPairings } from './devices/pairing.ts'
import { createRegistration } from './devices/registration.ts'
import { createDeviceSessions } from './gateway/device-session.ts'
import { createGathering } from './gateway/gathering.ts'
import { createGatewayHandshake } from './gateway/handshake.ts'
import { createConnectionService } from './gateway/service.ts'
import { logNamesOf } from './gateway/session.ts'
import { createSessionRegistry } from './gateway/session-registry.ts'
import { softEventLimit } from './gateway/session-rotation.ts'
import { createWebSocketGateway } from './gateway/websocket.ts'
import { startHousekeeping } from './housekeeping.ts'
import { createAdminHttp } from './http/admin.ts'
import { createAdminCommandsHttp } from './http/admin-commands.ts'
import { createBoundedServer } from './http/bounded-server.ts'
import { closeServer, formatHost, listen } from './http/listen.ts'
import { createLongPolls } from './http/long-poll.ts'
import { limitMailboxRequests } from './http/mailbox-limit.ts'
import { createNoteForeign, createOriginGate } from './http/origin-gate.ts'
import { adminRules, publicRules } from './http/origins.ts'
import { createPairingRoute } from './http/pairing.ts'
import { createPublicHttp } from './http/public.ts'
import { createReadiness } from './http/readiness.ts'
import { readStatusPage } from './http/status-page.ts'
import { describeNextKey, type NextKeyPlace, openIdentity } from './identity.ts'
import { loadKeyChanges, publishKeyChange } from './keys/key-changes.ts'
import { openServerKeys } from './keys/server-keys.ts'
import { clientAddressOf, socketAddressOf } from './limits/client-address.ts'
import { HANDSHAKE_COST } from './limits/costs.ts'
import { createDatabaseTurns } from './limits/database-turns.ts'
import { createPlaces } from './limits/places.ts'
import { createRateLimits } from './limits/rate-limits.ts'
import { createRegistrationLimits } from './limits/registration-limits.ts'
import { isPublishingClosed, isRegistrationClosed } from './limits/storage-level.ts'
import { createWorkBudgets } from './limits/work-budgets.ts'
import { createAppendHealth } from './log/append-health.ts'
import { createCheckpointGuard } from './log/checkpoint-guard.ts'
import { createDisplacementWatch } from './log/displacement-watch.ts'
import { createHubs } from './log/hub.ts'
import { createIntake } from './log/intake.ts'
import { openLogEpoch } from './log/log-epoch.ts'
import { createLogSeqGuard } from './log/log-seq-guard.ts'
import { openRetention } from './log/open-retention.ts'
import { openNodeSecret } from './node-secret.ts'
import { openPresence } from './presence/open-presence.ts'
import { readProcess, watchStatus } from './status/watch-status.ts'
import { openStorageWatch } from './storage/open-storage-watch.ts'
import { createLog, type Log } from './telemetry/log.ts'
import { DEFAULT_REPEATS } from './telemetry/log-repeats.ts'
import { createMetrics, type Metrics } from './telemetry/metrics.ts'
import { startSelfWatch } from './telemetry/self-watch.ts'
import type { Tracing } from './telemetry/tracing.ts'
import { readVersion } from './version.ts'

export interface App {
  /** Where it listens; the ports are those really bound. */
  readonly publicUrl: string
  readonly adminUrl: string
  /** SHA-256 of the identity key, 32 bytes. */
  readonly fingerprint: Uint8Array
  /** SHA-256 of the key that will follow. */
  readonly nextFingerprint: Uint8Array
  readonly isNewIdentity: boolean
  readonly nextKey: NextKeyPlace
  readonly databaseKind: Database['kind']
  readonly metrics: Metrics
  /** Lets the sessions go over `drainMs` (default: as configured), then closes bus and database (SES-5). Idempotent. */
  close(options?: { readonly drainMs?: number }): Promise<void>
}

/** Parts that tests replace: everything else is built from the configuration. */
export interface AppOverrides {
  readonly bus?: (built: Bus) => Bus
  readonly now?: () => number
  readonly log?: Log
}

const MAX_BATCHES_IN_FLIGHT = 2
/** Of devices that arrive, and of sessions that begin: few, so that what comes meanwhile is asked together; two, so that a
 * connection the network swallowed does not hold up everybody. */
const LOOKUPS_IN_FLIGHT = 2
const MAX_LOOKUPS_TOGETHER = 64
const RETRY_AFTER_MS = 1000
/** Room is made by people, or by retention: it is not there a second later. */
const STORAGE_RETRY_MS = 5000
/** Accounts that end in one sweep; the next one is a minute later. */
const CLOSES_AT_ONCE = 100
/** While no other node is heard: a device that was revoked there is cut off within a second (DEV-10). */
const DEAF_SWEEP_MS = 600
/** Word of gaps, which may be repeated at will, makes for one sweep in as long. */
const GAP_SWEEP_MS = 500
/** About 150 bytes each. */
const MAX_REMEMBERED_HEADS = 100_000

/** Rejects when the configuration cannot work: a database that breaks a promise, an identity that cannot be read. */
export async function startApp(config: Config, overrides: AppOverrides = {}): Promise<App> {
  const now = overrides.now ?? Date.now
  const log = overrides.log ?? createLog({ level: config.logLevel, format: config.logFormat, repeats: DEFAULT_REPEATS })
  for (const { name, nearest } of config.unknownVariables) {
    const hint = nearest === undefined ? '' : `; did you mean ${nearest}?`
    log.warn(
      { event: 'config.variable.ignore', variable: name },
      `${name} is no variable of Valise, and is not read${hint}`,
    )
  }
  const metrics = createMetrics()
  const clock = { now, monotonicMs: () => performance.now() }
  const crypto = nodeCrypto
  const closers: (() => Promise<unknown>)[] = []
  let { drainMs } = config
  const unwind = async (): Promise<void> => {
    for (const close of closers.splice(0).reverse()) {
      await close().catch((error: unknown) => log.error({ event: 'app.part.fail', err: error }, 'A part did not close'))
    }
    log.flush()
  }

  try {
    const tracing = await openTracing(config, log)
    if (tracing !== undefined) closers.push(tracing.close)
    const identity = await openIdentity(crypto, config.identityFile)
    const db = await openDatabase(config, log, metrics)
    closers.push(() => db.close())
    await runMigrations(db)
    const audit = createServerAudit({ db, log, retentionDays: config.auditRetentionDays })
    closers.push(audit.close)
    const keys = await openServerKeys({
      crypto,
      file: config.identityFile,
      identity,
      log,
      load: () => loadKeyChanges(crypto, db),
      publish: (change) => publishKeyChange(crypto, db, change),
      onChange: () => void audit.note('server.key', { fingerprint: toHex(keys.current.fingerprint) }).catch(onFailure),
    })
    noteNextKey(log, config.identityFile, identity.nextKey)
    await audit.note('server.start', describeStart(config, db.kind))
    const gatewayMetrics = audit.watch(metrics.gateway)

    const nodeSecret = await openNodeSecret({
      db,
      onFailure: (error) =>
        log.error(
          { event: 'bus.secret.fail', err: error },
          'The node secret could not be read; the one known stays in use',
        ),
      monotonicMs: clock.monotonicMs,
    })
    closers.push(nodeSecret.close)
    const builtBus: Bus =
      config.redisUrl === undefined
        ? createLocalBus({ log, metrics })
        : await openRedisBus({ url: config.redisUrl, keys: nodeSecret.busKeys, log, metrics })
    const bus = overrides.bus?.(builtBus) ?? builtBus
    closers.push(() => bus.close())

    const onFailure = (error: unknown): void =>
      log.error({ event: 'log.request.fail', err: error }, 'The database failed')
    const logEpoch = await openLogEpoch({
      read: () => readLogEpoch(db),
      onChange: () => {
        log.warn({ event: 'log.epoch.change' }, 'A backup was put back: every session ends, and begins anew')
        logSeqGuard.forgetAll()
        hubs.forgetHeads()
        void nodeSecret.read().catch(onFailure)
        deviceSessions.endAll()
      },
      onFailure,
    })
    const hubs = createHubs({
      bus,
      readHeads: (userIds) => readHeads(db, userIds),
      readLogSeqs: (userIds) => readLogSeqs(db, userIds),
      onFailure,
      tracing,
      metrics: metrics.delivery,
      ...clock,
    })
    closers.push(hubs.close)
    const presence = await openPresence({
      redisUrl: config.redisUrl,
      leaseMs: config.presenceLeaseMs,
      log,
      now,
      noteSeen: (userId, deviceId, atMs) => noteDeviceSeen(db, userId, deviceId, atMs),
      announce: hubs.announce,
    })
    closers.push(presence.close)
    const sweep = async (): Promise<void> => {
      await Promise.all([hubs.sweep(), deviceSessions.sweep(), logEpoch.check(), keys.check()])
    }
    const gapSweeps = createPaced<'sweep'>({
      intervalMs: GAP_SWEEP_MS,
      run: sweep,
      onFailure,
      monotonicMs: clock.monotonicMs,
    })
    const stopListening = bus.onGap(() => gapSweeps.add('sweep'))
    const retention = openRetention({ db, rules: config.retention, metrics: metrics.retention, onFailure, ...clock })
    closers.push(retention.close)
    const appendLimits = { maxStreams: config.limits.max_streams, maxUserBytes: config.retention.maxUserBytes }
    const checkpointGuard = createCheckpointGuard({
      appendRuns: (runs) => appendRuns(db, runs, appendLimits),
      readChains: (places) => readChains(db, places),
      logEpochBeganAtMs: () => logEpoch.current.beganAtMs,
    })
    const logSeqGuard = createLogSeqGuard({
      appendRuns: checkpointGuard.appendRuns,
      readLogHashes: (positions) => readLogHashes(db, positions),
      maxUsers: MAX_REMEMBERED_HEADS,
    })
    const appendHealth = createAppendHealth({
      tryAppend: () => tryAppend(db),
      onChange: ({ isFailing, error }) => {
        metrics.log.setAppendsFailing(isFailing)
        if (isFailing) log.error({ event: 'log.append.fail', err: error }, 'No event can be stored')
        else log.info({ event: 'log.append.recover' }, 'Events can be stored again')
      },
      now: clock.monotonicMs,
    })
    let publishedAtMs = Number.NEGATIVE_INFINITY
    const intake = createIntake({
      tracing,
      appendRuns: appendHealth.watch(logSeqGuard.appendRuns, isRefusedData),
      isRefusedData,
      onStored: (batch) => {
        publishedAtMs = clock.monotonicMs()
        hubs.announceStored(batch)
        retention.noteStored(batch)
      },
      onFailure,
      onPressure: (isOver) => gateway.setPaused(isOver),
      observeBatch: (events, commitMs) => {
        metrics.log.observeBatchEvents(events)
        metrics.log.observeCommit(commitMs)
      },
      observeBuffered: metrics.log.setIntakeBufferedBytes,
      now: clock.monotonicMs,
      maxBatchEvents: config.limits.max_batch_events,
      maxBatchBytes: config.limits.max_frame,
      maxBufferedBytes: config.intakeBufferBytes,
      maxBatchesInFlight: MAX_BATCHES_IN_FLIGHT,
    })

    const displacementWatch = createDisplacementWatch({
      maxUserBytes: config.retention.maxUserBytes ?? 0,
      log,
      count: metrics.retention.countDisplacementLimit,
      noteAudit: (detail) => audit.note('displacement.limit', detail),
      announce: hubs.announce,
      onFailure,
      now: clock.monotonicMs,
    })
    const workBudgets = createWorkBudgets({
      rules: config.work,
      observe: (cost) => gatewayMetrics.countWork(cost / 1_000_000),
      countLimited: gatewayMetrics.countWorkLimited,
      now: clock.monotonicMs,
    })
    const turns = createDatabaseTurns({
      kind: db.kind,
      poolSize: config.poolSize,
      isPublishing: () => clock.monotonicMs() - publishedAtMs < PUBLISHING_MS,
      now: clock.monotonicMs,
    })
    metrics.gateway.watchTurnsWaiting(() => turns.requestTurns.waitingCount + turns.pageTurns.waitingCount)
    const rateLimits = createRateLimits({
      rules: config.rateLimits,
      countLimited: gatewayMetrics.countRateLimited,
      now: clock.monotonicMs,
    })
    const storage = await openStorageWatch({ config, db, log, metrics: metrics.storage, onFailure })
    closers.push(async () => storage.close())
    const accounts = createAccounts({
      crypto,
      db,
      maxDevices: config.limits.max_devices,
      maxEntries: config.limits.max_device_log_entries,
    })
    const pairings = createPairings({ crypto, db, count: metrics.pairing.countPairing })
    const polls = createLongPolls()
    metrics.pairing.watchWaits(() => polls.waiting)
    const gathering = { keyOf: deviceKeyText, maxInFlight: LOOKUPS_IN_FLIGHT, maxTogether: MAX_LOOKUPS_TOGETHER }
    const findTogether = createGathering({ ...gathering, ask: (keys) => findDevicesForSessions(db, keys) })
    const beginTogether = createGathering({ ...gathering, ask: (keys) => beginFreeSessions(db, keys) })
    const deviceSessions = createDeviceSessions({
      crypto,
      accounts,
      pairings,
      registry: createSessionRegistry(),
      hubs,
      intake,
      presence,
      rateLimits,
      ...turns,
      storage: {
        isPublishingClosed: () => isPublishingClosed(storage.level()),
        countRefused: (count) => gatewayMetrics.countRateLimited('storage', count),
        retryAfterMs: STORAGE_RETRY_MS,
      },
      store: {
        readHead: async (userId) => (await readHeads(db, [userId])).get(toHex(userId)) ?? 0,
        saveCursor: (userId, deviceId, cursor) => saveCursor(db, userId, deviceId, cursor),
        readDeviceLog: (userId, afterSeq, limit) => readDeviceLog(db, userId, afterSeq, limit),
        readDeviceLogSeq: async (userId) => (await findUser(db, userId))?.logSeq ?? 0,
        readEnvelopes: (userId, deviceId, afterEpoch) => readEnvelopes(db, userId, deviceId, afterEpoch, ENVELOPE_PAGE),
        dropReadEnvelopes: (userId, deviceId, throughEpoch) => dropReadEnvelopes(db, userId, deviceId, throughEpoch),
        dropLinkedEnvelopes: (userId, deviceId, epochs) => dropLinkedEnvelopes(db, userId, deviceId, epochs),
      },
      beginSession: async (userId, deviceId) => {
        const key = { userId, deviceId }
        const begun = (await beginTogether(key)) ?? (await beginSession(db, userId, deviceId))
        if (begun !== undefined) logSeqGuard.note(userId, begun.device.user.logSeq, begun.device.user.logHead)
        return begun
      },
      confirmSessions: (begun) => confirmSessions(db, begun),
      findDevice: (deviceId, userId) => findDeviceForSession(db, deviceId, userId),
      findEnded: (sessions) => findEndedSessions(db, sessions),
      onDisplacementLimit: displacementWatch.note,
      findStored: ({ userId, deviceId }, deviceSeq) => findStoredEvent(db, { userId, deviceId, deviceSeq }),
      readPage: ({ userId, deviceId }, afterUserSeq, maxEvents) =>
        readEventsAfter(db, userId, afterUserSeq, { maxEvents, maxBytes: PAGE_BYTES, excludeDeviceId: deviceId }),
      metrics,
      tracing,
      log,
      limits: config.limits,
      logEpoch: () => logEpoch.current,
      retryAfterMs: RETRY_AFTER_MS,
      ...clock,
    })
    closers.push(deviceSessions.close)
    const rotationLimits = { maxAgeMs: config.rotateAfterMs, maxEvents: config.rotateAfterEvents }
    const addressOf = (request: IncomingMessage): string => clientAddressOf(request, config.trustedProxies)
    const gateway = createWebSocketGateway({
      log,
      metrics: gatewayMetrics,
      rotationLimits,
      handshakeTimeoutMs: config.handshakeTimeoutMs,
      maxConnections: config.maxConnections,
      maxConnectionsPerAddress: config.maxConnectionsPerAddress,
      sendBufferBytes: config.sendBufferBytes,
      slowConsumerMs: config.slowConsumerMs,
      pingIntervalMs: config.pingIntervalMs,
      now,
      refuseHandshake: (request) => {
        const address = addressOf(request)
        return rateLimits.refuseHandshake(address) ?? workBudgets.refuseRequest(address, HANDSHAKE_COST)
      },
      addressOf,
      workBudgets,
      createHandshake: () =>
        createGatewayHandshake({
          crypto,
          signer: keys.current.signer,
          nextFingerprint: keys.current.nextFingerprint,
          policy: () => ({
            timeMs: now(),
            softEvents: softEventLimit(rotationLimits),
            hardEvents: rotationLimits.maxEvents,
            maxAgeS: Math.floor(rotationLimits.maxAgeMs / 1000),
            maxFrame: config.limits.max_frame,
          }),
          findDevice: (deviceId, userId) =>
            userId === undefined ? findDeviceForSession(db, deviceId, userId) : findTogether({ userId, deviceId }),
        }),
      service: createConnectionService({
        crypto,
        deviceSessions,
        requestTurns: turns.requestTurns,
        registration: createRegistration({
          mode: config.registration,
          accounts,
          limits: createRegistrationLimits({
            rules: config.registrationRules,
            countLimited: gatewayMetrics.countRateLimited,
            now: clock.monotonicMs,
          }),
          isStorageLow: () => isRegistrationClosed(storage.level()),
          storageRetryMs: STORAGE_RETRY_MS,
          countLimited: (scope) => metrics.gateway.countRateLimited(scope, 1),
          now: () => performance.now(),
        }),
        limits: config.limits,
        logEpoch: () => logEpoch.current,
        maxAgeMs: config.rotateAfterMs,
        registrationTimeoutMs: config.registrationTimeoutMs,
        retryAfterMs: RETRY_AFTER_MS,
        readDeviceLog: (userId, afterSeq, limit) => readDeviceLog(db, userId, afterSeq, limit),
        now,
        onFailure: (err, session) =>
          log.error({ event: 'gateway.session.fail', ...logNamesOf(session), err }, 'A request of a device failed'),
      }),
    })

    // A second process can open PostgreSQL by itself.
    const adminToken = db.kind === 'pglite' ? createAdminToken() : undefined
    let isDraining = false
    const takeTurn = <T>(address: string, work: () => Promise<T>): Promise<T> =>
      turns.requestTurns.run({ address, userKey: '' }, work)
    const publicHttp = createPublicHttp({
      identity: () => ({ ...keys.current, publicKey: keys.current.signer.publicKey }),
      keyChangesAfter: keys.changesAfter,
      registration: config.registration,
      mailboxes: {
        post: (mailboxId, slot, body) => postMailboxMessage(db, { mailboxId, slot, body }),
        read: (mailboxId, slot) => readMailboxMessage(db, mailboxId, slot),
      },
      routePairing: createPairingRoute({
        pairings,
        polls,
        addressOf,
        takeTurn,
      }),
      addressOf,
      takeTurn,
      polls,
      refuseWork: (request, cost) => workBudgets.refuseRequest(addressOf(request), cost),
      newRequestId: () => toHex(nodeCrypto.randomBytes(8)),
      onFailure: (err, request) => log.error({ event: 'http.request.fail', request, err }, 'An HTTP request failed'),
    })
    const noteForeign = createNoteForeign({ log, metrics: metrics.http })
    const originGate = createOriginGate({ rules: publicRules(config.host, config.origins), noteForeign })
    const publicServer = createBoundedServer({
      handler: originGate.guard(
        limitMailboxRequests({
          handler: publicHttp,
          refuse: (request) => rateLimits.refuseMailboxRequest(clientAddressOf(request, config.trustedProxies)),
        }),
      ),
      places: createPlaces({ total: config.maxHttpConnections, perAddress: config.maxHttpConnectionsPerAddress }),
      addressOf: (socket) => socketAddressOf(socket.remoteAddress, config.trustedProxies),
      takesUpgrades: true,
      headTimeoutMs: config.handshakeTimeoutMs,
      metrics: metrics.http,
    })
    publicServer.on('upgrade', originGate.guardUpgrade(gateway.handleUpgrade))
    const readiness = createReadiness({
      isDraining: () => isDraining,
      isBusHealthy: () => bus.isHealthy,
      isKeyStale: () => keys.isStale,
      storageLevel: storage.level,
      readMigrationState: () => readMigrationState(db),
      canStore: appendHealth.works,
      now: () => performance.now(),
    })
    const status = await watchStatus({
      server: {
        version: readVersion(),
        get fingerprint() {
          return toBase64Url(keys.current.fingerprint)
        },
        database: db.kind,
        bus: config.redisUrl === undefined ? 'local' : 'redis',
        started_at_ms: now(),
      },
      samples: metrics.samples,
      readProcess,
      readiness: readiness.recent,
      now,
    })
    closers.push(async () => status.close())
    const adminServer = createBoundedServer({
      handler: createAdminHttp({
        readiness: readiness.check,
        renderMetrics: () => metrics.render(),
        metricsContentType: metrics.contentType,
        answerCommand:
          adminToken === undefined
            ? undefined
            : createAdminCommandsHttp({
                token: adminToken,
                run: (name, input) => ADMIN_COMMANDS.get(name)?.(db, input),
              }),
        readStatus: status.read,
        page: await readStatusPage(),
        rules: adminRules(config.adminHost, config.adminNames),
        noteForeign,
      }),
      places: createPlaces({ total: ADMIN_CONNECTIONS, perAddress: ADMIN_CONNECTIONS / 2 }),
      addressOf: (socket) => socketAddressOf(socket.remoteAddress, config.trustedProxies),
      takesUpgrades: false,
      headTimeoutMs: config.handshakeTimeoutMs,
      metrics: metrics.admin,
    })

    const stopHousekeeping = startHousekeeping({
      sweepMs: () => (bus.isHealthy ? config.headPollMs : Math.min(config.headPollMs, DEAF_SWEEP_MS)),
      sweep,
      cleanMailboxes: async () => {
        await deleteExpiredMailboxes(db).catch(onFailure)
        await deleteExpiredPairings(db).then((count) => metrics.pairing.countPairing('expired', count), onFailure)
        await deleteOldUses(db).catch(onFailure)
      },
      cleanInvitations: () => deleteExpiredInvitations(db).catch(onFailure),
      closeAccounts: async () => {
        const due = { pendingMs: PENDING_MS, limit: CLOSES_AT_ONCE, onFailure }
        const closed = await closeDueAccounts(db, due).catch(onFailure)
        for (const userId of closed ?? []) hubs.announce({ type: 'account_deleted', userId })
      },
    })
    const selfWatch = await startSelfWatch({ metrics, db, dataDir: config.dataDir, onFailure })
    closers.push(async () => {
      stopListening()
      stopHousekeeping()
      selfWatch.close()
      await gapSweeps.close()
    })
    closers.push(() => closeServer(adminServer))
    const adminPort = await listen(adminServer, config.adminPort, config.adminHost)
    const adminUrl = `http://${formatHost(config.adminHost)}:${adminPort}`
    if (adminToken !== undefined) {
      const access = await writeAdminAccess(config.dataDir, { url: adminUrl, token: adminToken })
      closers.push(access.remove)
    }
    closers.push(() => closeServer(publicServer))
    closers.push(async () => {
      isDraining = true
      await gateway.drain(drainMs)
      await intake.drain()
      await deviceSessions.whenLeft()
    })
    const publicPort = await listen(publicServer, config.port, config.host)

    return {
      publicUrl: `ws://${formatHost(config.host)}:${publicPort}`,
      adminUrl,
      get fingerprint() {
        return keys.current.fingerprint
      },
      get nextFingerprint() {
        return keys.current.nextFingerprint
      },
      isNewIdentity: identity.isNew,
      nextKey: identity.nextKey,
      databaseKind: db.kind,
      metrics,
      close: (options) => {
        drainMs = options?.drainMs ?? drainMs
        return unwind()
      },
    }
  } catch (error) {
    await unwind()
    throw error
  }
}

function noteNextKey(log: Log, identityFile: string, nextKey: NextKeyPlace): void {
  const text = describeNextKey(identityFile, nextKey)
  if (nextKey === 'other') log.warn({ event: 'identity.next_key.differ' }, text)
  else log.info({ event: 'identity.next_key.find', place: nextKey }, text)
}

/** Prometheus, a balancer and a few people; not the world. */
const ADMIN_CONNECTIONS = 256
/** So long after a commit others still publish: requests and replays leave room for them. */
const PUBLISHING_MS = 100
/** Bytes of events in one page, leaving room for its frame. */
const PAGE_BYTES = 768 * 1024
const ENVELOPE_PAGE = 100

/** The SDK is loaded only where its traces go somewhere. */
async function openTracing({ otlpEndpoint }: Config, log: Log): Promise<Tracing | undefined> {
  if (otlpEndpoint === undefined) return undefined
  const { createOtlpTracing } = await import('./telemetry/otlp-tracing.ts')
  return createOtlpTracing({ endpoint: otlpEndpoint, log })
}

function openDatabase(config: Config, log: Log, metrics: Metrics): Promise<Database> {
  const { databaseUrl, slowQueryMs, poolSize } = config
  if (databaseUrl === undefined) {
    return openPglite({ dataDir: join(config.dataDir, 'database'), log, metrics: metrics.database, slowQueryMs })
  }
  return openPostgres({ url: databaseUrl, poolSize, log, metrics: metrics.database, slowQueryMs })
}
