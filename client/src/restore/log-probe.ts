// One session that only looks: the server's log from any cursor, and where it says that an event of this device stands.
// Nothing of it is applied.

import {
  type Crypto,
  errorEntry,
  type LeafItem,
  type Receipt,
  type ServerMessage,
  type SessionEstablished,
  type StoredEvent,
} from '@valise/protocol'
import type { Identity } from '../account/identity.ts'
import type { PinKeeper } from '../account/pin-keeper.ts'
import { SetupError } from '../account/setup-error.ts'
import { ClientStoppedError, createAlarm, refusedFor } from '../alarm.ts'
import type { Clock } from '../clock.ts'
import { describeUnreached } from '../connect-problem.ts'
import { openSession, type SessionEnd } from '../connection/session.ts'
import type { Transport } from '../transport.ts'

export interface LogProbe {
  readonly established: SessionEstablished
  /** Every event after the cursor, in order, up to where the log ended when the server was asked. */
  replay(cursor: number, onEvent: (event: StoredEvent | LeafItem) => Promise<void>): Promise<void>
  /** Sends one event again as it was; `undefined` when the server does not know it as stored. */
  askReceipt(wire: Uint8Array): Promise<Receipt | undefined>
  close(): void
}

export interface LogProbeParts {
  readonly transport: Transport
  readonly crypto: Crypto
  readonly clock: Clock
  readonly clientInfo: string
  readonly identity: Identity
  readonly pin: PinKeeper
  readonly log: { readonly seq: number; readonly head: Uint8Array }
  readonly signal: AbortSignal
}

/** Rejects with a `SetupError`, or with a `ClientStoppedError` for what ends this device's sessions for good. */
export async function openLogProbe(parts: LogProbeParts): Promise<LogProbe> {
  const { identity, log, pin, signal } = parts
  const waiting: ServerMessage[] = []
  let wake = (): void => {}
  let ended: Error | undefined
  const end = (error: Error): void => {
    ended ??= error
    wake()
  }
  const session = openSession({
    transport: parts.transport,
    pin,
    crypto: parts.crypto,
    signer: identity.keys.signer,
    identity: {
      mode: 'device',
      userId: identity.userId,
      deviceId: identity.deviceId,
      publicKey: identity.keys.signer.publicKey,
      logSeq: log.seq,
      logHead: log.head,
      canRekey: true,
      clientInfo: parts.clientInfo,
    },
    clock: parts.clock,
    handlers: {
      onEstablished: (message) => {
        waiting.push(message)
        wake()
      },
      onRekeyed: () => {},
      onMessage: (message) => {
        waiting.push(message)
        if (waiting.length >= MAX_WAITING) session.pause()
        wake()
      },
      onEnd: (reason) => end(toError(reason, identity.server.url)),
    },
  })
  const abort = (): void => {
    end(new SetupError('aborted', 'Given up.'))
    session.close()
  }
  signal.addEventListener('abort', abort, { once: true })
  if (signal.aborted) abort()

  const next = async (): Promise<ServerMessage> => {
    for (;;) {
      const message = waiting.shift()
      if (message !== undefined) {
        if (waiting.length === 0) session.resume()
        if (message.type === 'error' || message.type === 'unavailable') {
          throw new SetupError('server_unreachable', 'The server cannot answer right now.')
        }
        return message
      }
      if (ended !== undefined) throw ended
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
  }

  const established = await next()
  if (established.type !== 'session_established') throw new SetupError('server_unreachable', 'The server broke off.')
  return {
    established,
    replay: async (cursor, onEvent) => {
      session.send({ type: 'resume', cursor, log_epoch: established.log_epoch })
      for (let isReplaying = true; isReplaying; ) {
        const message = await next()
        if (message.type === 'events') for (const event of message.events) await onEvent(event)
        isReplaying = message.type !== 'caught_up'
      }
    },
    askReceipt: async (wire) => {
      session.send({ type: 'publish', events: [wire] })
      for (;;) {
        const message = await next()
        if (message.type === 'receipts') return message.receipts[0]
        if (message.type === 'refused') return undefined
      }
    },
    close: () => {
      signal.removeEventListener('abort', abort)
      session.close()
    },
  }
}

/** Messages that were read and not looked at yet, above which no more are read. */
const MAX_WAITING = 8

function toError(reason: SessionEnd, serverUrl: string): Error {
  if (reason.type === 'wrong_server_key') {
    return new ClientStoppedError(refusedFor('wrong_server_key'))
  }
  if (reason.type === 'server_key_alarm') {
    return new ClientStoppedError({ type: 'alarm', alarm: createAlarm(reason.code) })
  }
  if (reason.type === 'server_key_followed') {
    return new SetupError('server_unreachable', 'The server has a new key, and this device follows it now; try again.')
  }
  if (reason.type === 'closed_by_server' && ['stop', 'alarm'].includes(errorEntry(reason.code).action)) {
    return new ClientStoppedError(refusedFor(reason.code))
  }
  return new SetupError(
    'server_unreachable',
    describeUnreached(serverUrl, reason.type === 'lost' ? reason.problem : undefined),
  )
}
