// Makes a user with this first device: keys, recovery phrase, first epoch and genesis entry, registered in one session.
// Nothing is stored before the server has confirmed; then everything is, in one batch.

import {
  applyEntry,
  buildGenesis,
  type Crypto,
  errorEntry,
  noUserId,
  type SealedBox,
  type ServerMessage,
} from '@valise/protocol'
import { ClientStoppedError, createAlarm, describeStop, refusedFor } from '../alarm.ts'
import type { Clock } from '../clock.ts'
import { describeUnreached } from '../connect-problem.ts'
import { openSession, type SessionEnd } from '../connection/session.ts'
import { pause } from '../pause.ts'
import { createDeviceKeys, type DeviceKeys } from '../sealing/device-keys.ts'
import { sealFirstEpoch } from '../sealing/epoch-boxes.ts'
import { createRecoveryEntropy, createRecoveryKeys, formatRecoveryPhrase } from '../sealing/recovery.ts'
import { DEFAULT_WAIT_MS } from '../server-times.ts'
import type { AtRestSealer } from '../store/at-rest.ts'
import { storeKeys } from '../store/layout.ts'
import { put, type Store } from '../store/store.ts'
import type { Transport } from '../transport.ts'
import { type Identity, type ServerPin, saveIdentity } from './identity.ts'
import { invitationRequired } from './invitation.ts'
import { createPinKeeper, type PinKeeper } from './pin-keeper.ts'
import { createRecoverySheet, type RecoverySheet } from './recovery-sheet.ts'
import { SetupError } from './setup-error.ts'

export interface CreateAccountParts {
  readonly store: Store
  readonly sealer: AtRestSealer
  readonly transport: Transport
  readonly crypto: Crypto
  readonly clock: Clock
  readonly clientInfo: string
}

export interface NewAccount {
  readonly server: ServerPin
  readonly name: string
  readonly platform: string
  /** For a server that wants one. */
  readonly invitation?: Uint8Array | undefined
  /** Shows the phrase, once; true when it was written down. Nothing is made before. */
  confirmPhrase?(sheet: RecoverySheet): Promise<boolean>
  readonly signal: AbortSignal | undefined
}

/** Registering twice finds the account of the first time, so a lost answer is asked for again. */
const MAX_ATTEMPTS = 4
/** A person waits so long for a limit; beyond it they are told when to come again. */
const MAX_LIMIT_WAIT_MS = 30_000

/** The phrase is returned once and kept nowhere. Rejects with a `SetupError`. */
export async function createAccount(
  parts: CreateAccountParts,
  { server, name, platform, invitation, confirmPhrase, signal }: NewAccount,
): Promise<{ identity: Identity; sheet: RecoverySheet }> {
  const { crypto, clock, store, sealer } = parts
  const keys = await createDeviceKeys(crypto, 'manager')
  const entropy = createRecoveryEntropy(crypto)
  const recovery = await createRecoveryKeys(crypto, entropy)
  const epoch = await sealFirstEpoch(crypto, [keys.record, recovery.record])
  const entry = await buildGenesis(crypto, {
    signer: keys.signer,
    timeMs: clock.now(),
    nonce: crypto.randomBytes(32),
    manager: keys.record,
    recovery: { record: recovery.record, signer: recovery.signer },
    epoch: epoch.start,
  })
  const applied = applyEntry(crypto, undefined, entry)
  if (!applied.ok) throw new Error(`the genesis entry breaks the rule ${applied.rule}`)
  const { userId } = applied.state
  const sheet = createRecoverySheet(formatRecoveryPhrase(entropy), server, userId)
  entropy.fill(0)
  if (confirmPhrase !== undefined && !(await confirmPhrase(sheet))) {
    throw new SetupError('phrase_unconfirmed', 'The phrase was not typed back, so no account was made.')
  }
  const boxes = epoch.boxes.map(({ deviceId, box }): SealedBox => ({ device_id: deviceId, box }))

  const pin = createPinKeeper({ crypto, transport: parts.transport, server })
  for (let attempt = 1; ; attempt++) {
    const end = await register(parts, { pin, keys, entry, boxes, invitation, signal })
    if (end === undefined) break
    if (isBetweenKeys(end) && attempt < MAX_ATTEMPTS) continue
    const waitMs = limitWaitOf(end)
    if (waitMs !== undefined && waitMs <= MAX_LIMIT_WAIT_MS && attempt < MAX_ATTEMPTS) {
      await pause(clock, signal ?? new AbortController().signal, waitMs).catch(() => {
        throw new SetupError('aborted', 'Given up.')
      })
      continue
    }
    const error = toSetupError(end, server.url)
    if (
      !(error instanceof SetupError) ||
      error.code !== 'server_unreachable' ||
      attempt >= MAX_ATTEMPTS ||
      !end.wasSent
    )
      throw error
  }
  const identity = { userId, keys, name, platform, server: pin.current }
  await store.batch([
    saveIdentity(sealer, identity),
    put(storeKeys.logEntry(0), entry),
    put(storeKeys.epochSecret(1), sealer.seal(storeKeys.epochSecret(1), epoch.secret)),
  ])
  return { identity: { ...identity, deviceId: keys.deviceId }, sheet }
}

type Failure = { readonly wasSent: boolean } & (
  | { readonly type: 'ended'; readonly end: SessionEnd }
  | { readonly type: 'refused'; readonly message: Extract<ServerMessage, { type: 'error' }> }
  | { readonly type: 'aborted' }
)

/** The server changes its key: the next session meets the new one. */
const isBetweenKeys = (failure: Failure): boolean =>
  failure.type === 'ended' && (failure.end.type === 'server_key_followed' || failure.end.type === 'given_up')

/** How long an address or the node is over its limit of registrations. */
const limitWaitOf = (failure: Failure): number | undefined =>
  failure.type === 'refused' && failure.message.code === 'rate_limited'
    ? (failure.message.retry_after_ms ?? DEFAULT_WAIT_MS)
    : undefined

function describeLimit(waitMs: number): string {
  const minutes = Math.ceil(waitMs / 60_000)
  return `The server makes no more accounts for this network right now. Try again in ${minutes} ${minutes === 1 ? 'minute' : 'minutes'}.`
}

/** One session in which the account is registered; `undefined` when the server has confirmed it. */
function register(
  { transport, crypto, clock, clientInfo }: CreateAccountParts,
  account: {
    readonly pin: PinKeeper
    readonly keys: DeviceKeys
    readonly entry: Uint8Array
    readonly boxes: SealedBox[]
    readonly invitation: Uint8Array | undefined
    readonly signal: AbortSignal | undefined
  },
): Promise<Failure | undefined> {
  const { pin, keys, entry, boxes, invitation, signal } = account
  return new Promise((resolve) => {
    let wasSent = false
    const onAbort = (): void => settle({ type: 'aborted', wasSent })
    const settle = (outcome: Failure | undefined): void => {
      signal?.removeEventListener('abort', onAbort)
      resolve(outcome)
      session.close()
    }
    const session = openSession({
      transport,
      pin,
      crypto,
      signer: keys.signer,
      identity: {
        mode: 'register',
        userId: noUserId(),
        deviceId: keys.deviceId,
        publicKey: keys.signer.publicKey,
        logSeq: 0,
        logHead: new Uint8Array(32),
        canRekey: true,
        clientInfo,
      },
      clock,
      handlers: {
        onEstablished: () => {
          wasSent = true
          session.send({ type: 'register', entry, boxes, ...(invitation === undefined ? {} : { invitation }) })
        },
        onRekeyed: () => {},
        onMessage: (message) => {
          if (message.type === 'registered') settle(undefined)
          else if (message.type === 'error') settle({ type: 'refused', message, wasSent })
          else if (message.type === 'unavailable') settle({ type: 'ended', end: { type: 'lost' }, wasSent })
        },
        onEnd: (end) => settle({ type: 'ended', end, wasSent }),
      },
    })
    if (signal?.aborted === true) onAbort()
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}

function toSetupError(failure: Failure, serverUrl: string): SetupError | ClientStoppedError {
  if (failure.type === 'aborted') return new SetupError('aborted', 'Given up.')
  if (failure.type === 'refused') {
    const { code } = failure.message
    switch (code) {
      case 'rate_limited':
        return new SetupError('registration_limited', describeLimit(failure.message.retry_after_ms ?? DEFAULT_WAIT_MS))
      case 'storage_low':
        return new SetupError(
          'registration_limited',
          'The server is short of storage and makes no accounts until its operator makes room. Try again later.',
        )
      case 'unavailable':
        return new SetupError('server_unreachable', `${errorEntry(code).text}.`)
      case 'registration_invite_required':
        return invitationRequired()
      case 'invitation_invalid':
        return new SetupError('invitation_refused', `${errorEntry(code).text}.`)
      default:
        return new SetupError('registration_refused', `The server refused the account: ${errorEntry(code).text}.`)
    }
  }
  const { end } = failure
  if (end.type === 'wrong_server_key') {
    return new SetupError('wrong_server_key', describeStop(refusedFor('wrong_server_key')))
  }
  if (end.type === 'server_key_alarm') {
    return new ClientStoppedError({ type: 'alarm', alarm: createAlarm(end.code) })
  }
  if (end.type === 'closed_by_server') {
    return new SetupError('registration_refused', `The server closed the connection: ${errorEntry(end.code).text}.`)
  }
  return new SetupError(
    'server_unreachable',
    describeUnreached(serverUrl, end.type === 'lost' ? end.problem : undefined),
  )
}
