// Which key this device trusts in its server. The pin moves by the server's signed changes alone, or by its user's word
// (`trust`); each move is stored before a session uses it, and told once.

import { type Crypto, equalBytes, type ServerKeyPin, serverFingerprint } from '@valise/protocol'
import { decode, encode } from 'cborg'
import { z } from 'zod'
import { AlarmError } from '../alarm.ts'
import { createListeners } from '../signal.ts'
import type { AtRestSealer } from '../store/at-rest.ts'
import { storeKeys } from '../store/layout.ts'
import { put, type Store } from '../store/store.ts'
import type { Transport } from '../transport.ts'
import type { ServerPin } from './identity.ts'
import { type ChainOutcome, followKeyChain, leadsToKey } from './key-chain.ts'

/** The server has changed its key, and this device has followed. */
export interface ServerKeyMove {
  /** SHA-256 of each key. */
  readonly from: Uint8Array
  readonly to: Uint8Array
}

/** What it means that a server proved another key than the pinned one. */
export type KeyVerdict =
  /** Its signed changes lead to that key: the pin has moved. */
  | { readonly type: 'followed' }
  /** A key that it has changed since, as a node may have that was not updated yet. */
  | { readonly type: 'retired' }
  /** No changes lead there. */
  | { readonly type: 'foreign' }
  | Exclude<ChainOutcome, { readonly type: 'followed' }>

export interface PinKeeper {
  readonly current: ServerPin
  /** The server proved the pinned key and named this next one. */
  learn(nextFingerprint: Uint8Array): void
  /** The server proved another key than the pinned one. Never rejects for the server's fault. */
  judge(publicKey: Uint8Array): Promise<KeyVerdict>
  /** Follows the changes that the server has made. Throws an `AlarmError`; a server that is away changes nothing. */
  refresh(): Promise<void>
  /** The user has compared this fingerprint. */
  trust(pin: ServerKeyPin): Promise<void>
  /** Calls at once for a move that nobody was told. */
  onMoved(listener: (move: ServerKeyMove) => void): () => void
}

export interface PinKeeperParts {
  readonly crypto: Crypto
  readonly transport: Transport
  readonly server: ServerPin
  /** Where the pin is kept; without it, in memory. */
  readonly vault?: PinVault
  readonly failing?: (error: unknown) => void
  /** At each move, whether or not somebody listens. */
  readonly onFollowed?: () => void
}

interface PinVault {
  readonly untold: Uint8Array | undefined
  save(pin: ServerPin, untold: Uint8Array | undefined): Promise<void>
}

/** Fingerprints a device remembers having left: enough for nodes and requests that are late. */
const MAX_RETIRED = 32

export function createPinKeeper(parts: PinKeeperParts): PinKeeper {
  const { crypto, transport, vault, failing = () => {} } = parts
  const listeners = createListeners<ServerKeyMove>(failing)
  let current = parts.server
  let untold = vault?.untold
  let listenerCount = 0
  let following: Promise<ChainOutcome> | undefined

  const save = async (): Promise<void> => vault?.save(current, untold)
  const tell = (): void => {
    if (untold === undefined || listenerCount === 0) return
    const move = { from: untold, to: current.fingerprint }
    untold = undefined
    listeners.emit(move)
    save().catch(failing)
  }
  const move = async (pin: ServerKeyPin): Promise<void> => {
    const from = untold ?? current.fingerprint
    const retired = (pin.retired ?? []).slice(-MAX_RETIRED)
    const { fingerprint, nextFingerprint } = pin
    await vault?.save({ url: current.url, fingerprint, nextFingerprint, retired }, from)
    current = { url: current.url, fingerprint, nextFingerprint, retired }
    untold = from
    parts.onFollowed?.()
    tell()
  }
  /** One at a time, whoever asks. */
  const follow = (): Promise<ChainOutcome> => {
    following ??= readChain().finally(() => {
      following = undefined
    })
    return following
  }
  const readChain = async (): Promise<ChainOutcome> => {
    const { http } = transport
    // Who knows no next key could be led anywhere by whoever has the pinned one.
    if (http === undefined || current.nextFingerprint === undefined) {
      return { type: 'followed', pin: current, changes: 0 }
    }
    return followKeyChain({ crypto, http, serverUrl: current.url }, current)
  }
  /** A device that met the server after a change does not know the keys before: their changes lead to its own. */
  const isPredecessor = async (fingerprint: Uint8Array): Promise<boolean> => {
    const { http } = transport
    return http !== undefined && leadsToKey({ crypto, http, serverUrl: current.url }, fingerprint, current.fingerprint)
  }
  const isRetired = (fingerprint: Uint8Array): boolean =>
    (current.retired ?? []).some((retired) => equalBytes(retired, fingerprint))

  return {
    get current() {
      return current
    },
    learn: (nextFingerprint) => {
      if (current.nextFingerprint !== undefined) return
      current = { ...current, nextFingerprint }
      save().catch(failing)
    },
    judge: async (publicKey) => {
      const proved = serverFingerprint(crypto, publicKey)
      if (isRetired(proved)) return { type: 'retired' }
      const outcome = await follow()
      if (outcome.type !== 'followed') return outcome
      const { pin } = outcome
      const isOnPath = [pin.fingerprint, ...(pin.retired ?? [])].some((each) => equalBytes(each, proved))
      if (!isOnPath) return { type: (await isPredecessor(proved)) ? 'retired' : 'foreign' }
      if (!equalBytes(pin.fingerprint, current.fingerprint)) await move(pin)
      return { type: 'followed' }
    },
    refresh: async () => {
      const outcome = await follow()
      if (outcome.type === 'alarm') throw new AlarmError(outcome.code)
      if (outcome.type === 'followed' && outcome.changes > 0) await move(outcome.pin)
    },
    trust: async ({ fingerprint, nextFingerprint }) => {
      const trusted = { url: current.url, fingerprint, nextFingerprint }
      await vault?.save(trusted, undefined)
      current = trusted
      untold = undefined
    },
    onMoved: (listener) => {
      const remove = listeners.add(listener)
      listenerCount += 1
      tell()
      return () => {
        listenerCount -= 1
        remove()
      }
    },
  }
}

const bytes32 = z.custom<Uint8Array>((value) => value instanceof Uint8Array && value.length === 32)

const storedPin = z.strictObject({
  version: z.literal(1),
  fingerprint: bytes32,
  next_fingerprint: bytes32.nullable(),
  retired: z.array(bytes32).max(MAX_RETIRED),
  /** The key before a move that nobody was told. */
  untold: bytes32.nullable(),
})

/** The pin of a device: as it was set up, or as it has moved since. Rejects with an `AlarmError`. */
export async function openPinKeeper(
  parts: Omit<PinKeeperParts, 'vault'> & { readonly store: Store; readonly sealer: AtRestSealer },
): Promise<PinKeeper> {
  const { store, sealer, server } = parts
  const key = storeKeys.serverPin
  const sealed = await store.get(key)
  const parsed = sealed === undefined ? undefined : storedPin.safeParse(decode(sealer.open(key, sealed)))
  if (parsed?.success === false) throw new AlarmError('store_damaged', { record: key })
  const stored = parsed?.data
  const save: PinVault['save'] = (pin, untold) => {
    const record: z.infer<typeof storedPin> = {
      version: 1,
      fingerprint: pin.fingerprint,
      next_fingerprint: pin.nextFingerprint ?? null,
      retired: [...(pin.retired ?? [])],
      untold: untold ?? null,
    }
    return store.batch([put(key, sealer.seal(key, encode(record)))])
  }
  const pin = stored && {
    url: server.url,
    fingerprint: stored.fingerprint,
    nextFingerprint: stored.next_fingerprint ?? undefined,
    retired: stored.retired,
  }
  return createPinKeeper({ ...parts, server: pin ?? server, vault: { untold: stored?.untold ?? undefined, save } })
}
