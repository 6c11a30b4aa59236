// A session of the recovery device (PROTOCOL G, handshake mode 2): finds the account by the phrase's own key, reads and
// verifies its device log from genesis, opens the box, and can then sign a new device in. It remembers nothing.

import { type Crypto, type ErrorCode, noUserId, type SessionEstablished } from '@valise/protocol'
import { AlarmError, ClientStoppedError, createAlarm, refusedFor } from '../alarm.ts'
import type { Clock } from '../clock.ts'
import { describeUnreached } from '../connect-problem.ts'
import { createRequests, isUndecided, RequestRefusedError, SessionLostError } from '../connection/requests.ts'
import { openSession, type SessionEnd } from '../connection/session.ts'
import type { DeviceKeys } from '../sealing/device-keys.ts'
import type { AtRestSealer } from '../store/at-rest.ts'
import { keysUnder } from '../store/layout.ts'
import { createMemoryStore } from '../store/memory-store.ts'
import { put, type Store, type StoreOperation } from '../store/store.ts'
import type { Transport } from '../transport.ts'
import { type AppendParts, createAttempt } from './append-entry.ts'
import { openEpochKeys } from './epoch-keys.ts'
import type { ServerPin } from './identity.ts'
import { openLogBook } from './log-book.ts'
import { createPinKeeper, type PinKeeper } from './pin-keeper.ts'
import { judgePhrase } from './recovery-sheet.ts'
import { SetupError } from './setup-error.ts'
import { type Ask, readAccount } from './sync.ts'

export interface RecoverySessionParts {
  readonly transport: Transport
  readonly crypto: Crypto
  readonly clock: Clock
  readonly sealer: AtRestSealer
  readonly clientInfo: string
}

/** What the recovery device may do, with the log as it has verified it. */
export interface RecoveryAccess {
  /** The server, with the key that it has proved. */
  readonly server: ServerPin
  readonly manager: AppendParts
  readonly ask: Ask
  /** Stores that log on another device: the pin of what the server shows it from then on. */
  savingLog(): Promise<StoreOperation[]>
}

interface RecoveryKeys {
  readonly keys: DeviceKeys
  readonly signal: AbortSignal | undefined
}

/**
 * Runs `work` in one session, the second when the server has changed its key. Rejects with a `SetupError`, and with
 * `ClientStoppedError` when what the server shows does not hold.
 */
export async function withRecoverySession<Result>(
  parts: RecoverySessionParts,
  { server, ...recovery }: RecoveryKeys & { readonly server: ServerPin },
  work: (access: RecoveryAccess) => Promise<Result>,
): Promise<Result> {
  const pin = createPinKeeper({ crypto: parts.crypto, transport: parts.transport, server })
  const first = await runSession(parts, recovery, pin, work)
  const last = first === 'server_key_followed' ? await runSession(parts, recovery, pin, work) : first
  if (last !== 'server_key_followed') return last.result
  throw new SetupError('server_unreachable', `The server at ${server.url} changes its key right now; try again.`)
}

async function runSession<Result>(
  parts: RecoverySessionParts,
  { keys, signal }: RecoveryKeys,
  pin: PinKeeper,
  work: (access: RecoveryAccess) => Promise<Result>,
): Promise<{ readonly result: Result } | 'server_key_followed'> {
  const { crypto, clock, sealer } = parts
  let ended: SessionEnd | undefined
  let greet: (message: SessionEstablished) => void = () => {}
  let giveUp: (error: Error) => void = () => {}
  const established = new Promise<SessionEstablished>((resolve, reject) => {
    greet = resolve
    giveUp = reject
  })
  const session = openSession({
    transport: parts.transport,
    pin,
    crypto,
    signer: keys.signer,
    identity: {
      mode: 'recovery',
      userId: noUserId(),
      deviceId: keys.deviceId,
      publicKey: keys.signer.publicKey,
      logSeq: 0,
      logHead: new Uint8Array(32),
      canRekey: true,
      clientInfo: parts.clientInfo,
    },
    clock,
    handlers: {
      onEstablished: (message) => greet(message),
      onRekeyed: () => {},
      onMessage: (message) => {
        const isAnswer =
          message.type === 'device_log' ||
          message.type === 'envelopes' ||
          message.type === 'device_log_appended' ||
          message.type === 'error'
        if (isAnswer) requests.settle(message)
      },
      onEnd: (end) => {
        ended = end
        requests.close()
        giveUp(new SessionLostError('the session ended'))
      },
    },
  })
  const requests = createRequests({ clock, send: session.send, onOverdue: () => session.abandon({ type: 'silent' }) })
  const onAbort = (): void => session.close()
  signal?.addEventListener('abort', onAbort, { once: true })
  if (signal?.aborted === true) onAbort()
  try {
    const { user_id: userId, device_log_seq, device_log_head } = await established
    const store = createMemoryStore()
    const book = await openLogBook({ store, crypto, userId })
    const epochKeys = await openEpochKeys({ store, sealer, crypto, keys, userId })
    await readAccount(requests.ask, book, epochKeys, device_log_seq)
    if (book.compare({ seq: device_log_seq, head: device_log_head }) !== 'known') {
      throw new AlarmError('device_log_forked', { seq: device_log_seq })
    }
    // Genesis or op 5 bears the proof of this very key, or the verifier would not have let it in.
    if (judgePhrase(book.require(), keys) !== 'valid') throw new AlarmError('foreign_session')
    const manager = { crypto, clock, identity: keys, book, epochKeys, attempt: createAttempt() }
    try {
      const savingLog = () => copyLog(store)
      return { result: await work({ manager, ask: requests.ask, server: pin.current, savingLog }) }
    } finally {
      epochKeys.forget()
    }
  } catch (error) {
    if (ended?.type === 'server_key_followed') return ended.type
    throw toFailure(error, ended, pin.current.url, signal)
  } finally {
    signal?.removeEventListener('abort', onAbort)
    session.close()
  }
}

async function copyLog(store: Store): Promise<StoreOperation[]> {
  const operations: StoreOperation[] = []
  for await (const [key, value] of store.range(keysUnder('log/'))) operations.push(put(key, value))
  return operations
}

const REFUSALS: Partial<Record<ErrorCode, readonly [SetupError['code'], string]>> = {
  handshake_failed: [
    'phrase_unknown',
    'No account on this server is recovered by this phrase: it is that of another account, or this is another server.',
  ],
  device_revoked: ['phrase_replaced', 'This phrase was replaced by a newer one and recovers nothing any more.'],
  account_deleted: ['account_deleted', 'The account of this phrase was deleted.'],
}

function toFailure(error: unknown, end: SessionEnd | undefined, url: string, signal: AbortSignal | undefined): unknown {
  if (error instanceof AlarmError) return new ClientStoppedError({ type: 'alarm', alarm: error.alarm })
  if (error instanceof RequestRefusedError && isUndecided(error)) {
    return new SetupError('server_unreachable', `The server at ${url} cannot answer right now.`, { cause: error })
  }
  if (!(error instanceof SessionLostError) || end === undefined) return error
  if (signal?.aborted === true) return new SetupError('aborted', 'Given up.', { cause: error })
  if (end.type === 'server_key_alarm') {
    return new ClientStoppedError({ type: 'alarm', alarm: createAlarm(end.code) })
  }
  if (end.type === 'wrong_server_key') return new ClientStoppedError(refusedFor('wrong_server_key'))
  const code = end.type === 'closed_by_server' ? end.code : end.type === 'handshake_failed' ? end.type : undefined
  const refusal = code === undefined ? undefined : REFUSALS[code]
  if (refusal !== undefined) return new SetupError(refusal[0], refusal[1], { cause: error })
  return new SetupError('server_unreachable', describeUnreached(url, end.type === 'lost' ? end.problem : undefined), {
    cause: error,
  })
}
