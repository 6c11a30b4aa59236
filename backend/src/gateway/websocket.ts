// The WebSocket gateway: takes sockets, authenticates them, makes sessions of them, closes them with the right code.
// It forces a new handshake when keys are used up (SES-2), lets a newer session of a device win (SES-3), and leaves
// nothing behind however a socket ends: the hub is left, so the last one out unsubscribes the user's channel (BUS-2).
// More than 300 lines: the whole life of a socket, from its first byte to its end, stands in one place.

import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { createSessionChannel, ERRORS, type ErrorCode, errorEntry, toHex } from '@valise/protocol'
import { type WebSocket, WebSocketServer } from 'ws'
import { createPlaces } from '../limits/places.ts'
import type { WorkBudgets } from '../limits/work-budgets.ts'
import type { Log } from '../telemetry/log.ts'
import type { GatewayMetrics } from '../telemetry/metrics.ts'
import { type Connection, createConnection } from './connection.ts'
import { SessionRefused } from './device-session.ts'
import { type DrainingPeer, drainPeers, finishSession, systemDrainParts } from './drain.ts'
import type { EstablishedService } from './established-service.ts'
import type { GatewayHandshake, HandshakeResult } from './handshake.ts'
import { createHandshakeTurns } from './handshake-turns.ts'
import { createMeter } from './meter.ts'
import { type ObservedPeer, watchSockets } from './observed-peers.ts'
import { createProgressWatch, type WatchedPeer } from './peer-progress.ts'
import { createPeerSocket } from './peer-socket.ts'
import { refuseUpgrade } from './refuse-upgrade.ts'
import type { ConnectionService } from './service.ts'
import type { SessionLogNames } from './session.ts'
import { createRotationCounter, type RotationLimits, rotationReason, shouldRotateKeys } from './session-rotation.ts'

export interface WebSocketGatewayParts {
  readonly log: Log
  readonly metrics: GatewayMetrics
  readonly rotationLimits: RotationLimits
  readonly handshakeTimeoutMs: number
  readonly maxConnections: number
  /** Of one address; 0: not limited. */
  readonly maxConnectionsPerAddress: number
  readonly sendBufferBytes: number
  readonly slowConsumerMs: number
  readonly pingIntervalMs: number
  /** Unix milliseconds. */
  now(): number
  /** Milliseconds until the requester may begin a handshake; undefined: now (LIM-2). */
  refuseHandshake(request: IncomingMessage): number | undefined
  addressOf(request: IncomingMessage): string
  readonly workBudgets: Pick<WorkBudgets, 'charge'>
  createHandshake(): GatewayHandshake
  readonly service: ConnectionService
}

export interface WebSocketGateway {
  handleUpgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void
  /** Stops or resumes reading from all sockets, so that TCP pushes back (P5). */
  setPaused(isPaused: boolean): void
  /** Takes no new sockets, lets those there are go over a window (SES-5), and resolves when all are gone. */
  drain(windowMs: number): Promise<void>
  readonly connectionCount: number
}

type Stage =
  | { readonly type: 'awaiting_hello'; readonly handshake: GatewayHandshake }
  | { readonly type: 'awaiting_auth'; readonly handshake: GatewayHandshake }
  /** A database or a signature is being waited for; a peer that sends now breaks the protocol. */
  | { readonly type: 'busy' }
  | { readonly type: 'established'; readonly connection: Connection; readonly service: EstablishedService }
  | { readonly type: 'closed' }

interface GatewayPeer extends DrainingPeer, ObservedPeer, WatchedPeer {
  tick(): void
  updatePaused(): void
}

/** A suite-2 hello in base64url takes about 1.8 KiB. */
const MAX_HANDSHAKE_BYTES = 8 * 1024
const TICK_MS = 1000
/** When a socket that the node has no place for may come again. */
const NO_ROOM_RETRY_MS = 5000
/** Some 64 keep a core busy while others wait for the database. */
const TURNS = { proofsAtOnce: 64 }

export function createWebSocketGateway(parts: WebSocketGatewayParts): WebSocketGateway {
  const { log, metrics, rotationLimits, now } = parts
  const server = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    clientTracking: false,
    // Grows when a session stands. Twice the bound, so that a frame just above it is answered with the protocol's own code.
    maxPayload: 2 * MAX_HANDSHAKE_BYTES,
  })
  const sockets = new Map<WebSocket, GatewayPeer>()
  const progressWatch = createProgressWatch()
  const turns = createHandshakeTurns(TURNS)
  const places = createPlaces({ total: parts.maxConnections, perAddress: parts.maxConnectionsPerAddress })
  let acceptedCount = 0
  let pausedCount = 0
  let restingCount = 0
  let isPaused = false
  let isClosing = false
  let onEmpty: (() => void) | undefined

  const ticking = setInterval(() => {
    for (const peer of [...sockets.values()]) peer.tick()
    progressWatch.look(sockets.values())
  }, TICK_MS).unref()
  watchSockets(metrics, sockets)

  const accept = (socket: WebSocket, transport: Duplex, address: string): void => {
    const connectionNumber = ++acceptedCount
    const socketLog = log.child({ connection: connectionNumber })
    let stage: Stage = { type: 'awaiting_hello', handshake: parts.createHandshake() }
    /** While its session is being opened: it must learn that its socket is gone. */
    let opening: Connection | undefined
    let isFinishing = false
    const openedAtMs = now()

    const peerSocket = createPeerSocket(socket, {
      transport,
      sendBufferBytes: parts.sendBufferBytes,
      onClose: metrics.countClose,
      onPaused: (isSocketPaused) => {
        pausedCount += isSocketPaused ? 1 : -1
        metrics.setSocketsPaused(pausedCount)
      },
      onResting: (isResting) => {
        restingCount += isResting ? 1 : -1
        metrics.setSocketsResting(restingCount)
        if (!isResting) setImmediate(takeBacklog)
      },
    })
    /** A handshake puts nothing into the intake, so that it goes on. */
    const updatePaused = (): void => peerSocket.setPaused('intake', isPaused && stage.type === 'established')

    const refuse = (code: ErrorCode): void => {
      if (stage.type === 'closed') return
      metrics.countHandshake(code)
      const entry = errorEntry(code)
      peerSocket.close(entry.close ?? ERRORS.handshake_failed.close, entry.text)
      leave()
    }

    const leave = (): void => {
      const left = stage
      stage = { type: 'closed' }
      opening?.end()
      if (left.type === 'established') {
        left.connection.end()
        left.service.end()
      }
      if (left.type === 'awaiting_hello' || left.type === 'awaiting_auth') left.handshake.close()
    }

    /** Why a session has to end now: its keys are used up, and its client may no longer change them in band. */
    const dueRotation = (connection: Connection) => {
      const keyState = connection.keyState()
      if (connection.isClosed() || !shouldRotateKeys(keyState, rotationLimits, now())) return undefined
      const reason = rotationReason(keyState, rotationLimits, now())
      return reason === 'events' && connection.mayStillRekey() ? undefined : reason
    }

    const enforceRotation = (connection: Connection, names: SessionLogNames): void => {
      const reason = dueRotation(connection)
      if (reason === undefined) return
      const sessionAge = now() - connection.keyState().establishedAtMs
      socketLog.info(
        {
          event: 'gateway.session.rotate',
          ...names,
          deviceId: names.device,
          sessionAge,
          sessionAgeHours: (sessionAge / 3_600_000).toFixed(2),
          reason,
        },
        'Session keys should be rotated - forcing re-handshake',
      )
      metrics.countSessionRotation(reason)
      connection.close('session_rotation_required')
    }

    const establish = async (result: Exclude<HandshakeResult, { type: 'refused' }>): Promise<void> => {
      const { claim, secrets } = result
      const rotation = createRotationCounter(rotationLimits)
      const meter = createMeter({
        budgets: parts.workBudgets,
        sessionKey: String(connectionNumber),
        userKey: toHex(claim.deviceId),
        address,
        rest: peerSocket.rest,
      })
      let service: EstablishedService | undefined
      const connection = createConnection({
        socket: peerSocket,
        channel: createSessionChannel({ crypto: parts.service.crypto, role: 'server', secrets }),
        rotation,
        canRekey: claim.canRekey,
        establishedAtMs: openedAtMs,
        sendBufferBytes: parts.sendBufferBytes,
        slowConsumerMs: parts.slowConsumerMs,
        pingIntervalMs: parts.pingIntervalMs,
        now,
        charge: meter.charge,
        onMessage: (message) => service?.handle(message),
        onRekeyed: () => {
          metrics.countSessionRotation('rekey')
          service?.onWritable()
        },
      })
      opening = connection
      service = await parts.service.begin(result, connection, { establishedAtMs: openedAtMs, address, meter })
      opening = undefined
      if (stage.type === 'closed' || connection.isClosed()) {
        connection.end()
        return service.end()
      }
      metrics.countHandshake(result.type === 'revoked' ? 'device_revoked' : 'ok')
      stage = { type: 'established', connection, service }
      socketLog.debug({ event: 'gateway.session.begin', ...service.logNames }, 'A session began')
      updatePaused()
    }

    const receiveHandshake = async (current: Stage, text: string): Promise<void> => {
      stage = { type: 'busy' }
      if (current.type === 'awaiting_hello') {
        const answer = await turns.hello(address, async () =>
          leftEarly() ? undefined : current.handshake.receiveHello(text),
        )
        if (answer === undefined || leftEarly()) return
        if ('code' in answer) return refuse(answer.code)
        socket.send(answer.reply)
        stage = { type: 'awaiting_auth', handshake: current.handshake }
        return
      }
      if (current.type !== 'awaiting_auth') return refuse('handshake_failed')
      await turns.proof(async () => {
        const result = await current.handshake.receiveAuth(text)
        if (leftEarly()) return
        if (result.type === 'refused') return refuse(result.code)
        await establish(result)
      })
    }

    /** A peer that rests is not read, but what was read with its last frame is here already: at most one read of the socket. */
    const backlog: Buffer[] = []
    const takeBacklog = (): void => {
      while (stage.type === 'established' && !peerSocket.isResting()) {
        const frame = backlog.shift()
        if (frame === undefined) return
        const { connection, service } = stage
        connection.receive(frame)
        enforceRotation(connection, service.logNames)
      }
    }

    const leftEarly = (): boolean => stage.type === 'closed'

    socket.on('message', (bytes, isBinary) => {
      // ws hands over one Buffer a message unless told otherwise.
      if (!Buffer.isBuffer(bytes) || isFinishing) return
      if (stage.type === 'established') {
        if (!isBinary) return stage.connection.close('bad_frame')
        backlog.push(bytes)
        return takeBacklog()
      }
      if (stage.type === 'closed') return
      if (isBinary || stage.type === 'busy' || bytes.length > MAX_HANDSHAKE_BYTES) return refuse('handshake_failed')
      receiveHandshake(stage, bytes.toString('utf8')).catch((error: unknown) => {
        if (error instanceof SessionRefused) return refuse(error.code)
        socketLog.error({ event: 'gateway.handshake.fail', err: error }, 'A handshake could not be finished')
        refuse('server_overloaded')
      })
    })

    transport.on('drain', () => {
      if (stage.type !== 'established') return
      stage.connection.onTaken()
      stage.service.onWritable()
    })

    socket.on('error', (error) => {
      socketLog.debug({ event: 'gateway.socket.fail', err: error }, 'A socket failed')
    })
    socket.on('close', () => {
      leave()
      peerSocket.end()
      sockets.delete(socket)
      metrics.setConnections(sockets.size)
      if (sockets.size === 0) onEmpty?.()
    })

    sockets.set(socket, {
      tick: () => {
        if (stage.type === 'closed') return
        if (stage.type !== 'established') {
          if (now() - openedAtMs >= parts.handshakeTimeoutMs) refuse('handshake_timeout')
          return
        }
        const { connection, service } = stage
        enforceRotation(connection, service.logNames)
        const due = connection.tick()
        if (due === 'gone') return socket.terminate()
        if (due !== undefined) return connection.close(due)
        service.tick()
      },
      tell: (reconnectAfterMs) => {
        if (stage.type !== 'established') return false
        stage.connection.send({ type: 'draining', reconnect_after_ms: reconnectAfterMs })
        return true
      },
      finish: async () => {
        if (stage.type !== 'established') return refuse('server_draining')
        isFinishing = true
        await finishSession(stage.connection, stage.service)
      },
      updatePaused,
      isFull: peerSocket.isFull,
      lookAtProgress: () => {
        const endLook = peerSocket.lookAtProgress()
        return (unacknowledged) => {
          endLook(unacknowledged)
          if (stage.type === 'established') stage.connection.onTaken()
        }
      },
      isOverdue: () => stage.type === 'established' && dueRotation(stage.connection) !== undefined,
    })
    metrics.setConnections(sockets.size)
  }

  return {
    handleUpgrade: (request, socket, head) => {
      if (isClosing) return refuseUpgrade(socket, 'server_draining', NO_ROOM_RETRY_MS)
      const retryAfterMs = parts.refuseHandshake(request)
      if (retryAfterMs !== undefined) {
        metrics.countHandshake('rate_limited')
        return refuseUpgrade(socket, 'rate_limited', retryAfterMs)
      }
      const address = parts.addressOf(request)
      const leavePlace = places.take(address)
      if (leavePlace === undefined) {
        metrics.countHandshake('server_overloaded')
        return refuseUpgrade(socket, 'server_overloaded', NO_ROOM_RETRY_MS)
      }
      socket.once('close', leavePlace)
      server.handleUpgrade(request, socket, head, (accepted) => accept(accepted, socket, address))
    },
    setPaused: (paused) => {
      isPaused = paused
      for (const peer of sockets.values()) peer.updatePaused()
    },
    drain: async (windowMs) => {
      isClosing = true
      const emptied = new Promise<void>((resolve) => {
        onEmpty = resolve
      })
      drainPeers([...sockets.values()], windowMs, systemDrainParts(log))
      if (sockets.size > 0) await emptied
      clearInterval(ticking)
    },
    get connectionCount() {
      return sockets.size
    },
  }
}
