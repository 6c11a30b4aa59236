// The content keys this device has: the secret of each key epoch (sealed at rest), and what is derived from it.
// A secret is kept only when it is the one that the device log commits to.

import { type Crypto, type DeviceId, type DeviceLogState, findEpoch, type StreamId } from '@valise/protocol'
import { AlarmError } from '../alarm.ts'
import type { DeviceKeys } from '../sealing/device-keys.ts'
import { eventKey, streamIdOf } from '../sealing/epoch.ts'
import { openEpoch, openPreviousEpoch } from '../sealing/epoch-boxes.ts'
import type { AtRestSealer } from '../store/at-rest.ts'
import { counterOf, keysUnder, storeKeys } from '../store/layout.ts'
import { put, type Store, type StoreOperation } from '../store/store.ts'

/** What the server keeps for this device: boxes by epoch, and links from an epoch to the one before. */
export interface ReceivedEnvelopes {
  readonly boxes: ReadonlyMap<number, Uint8Array>
  readonly prevBoxes: ReadonlyMap<number, Uint8Array>
}

export interface EpochKeys {
  /** Whose they are. */
  readonly deviceId: DeviceId
  /** The lowest epoch without a secret here, if any. */
  firstMissing(log: DeviceLogState): number | undefined
  /** Opens what is missing and stores it. Throws the alarm `epoch_key_invalid` for what does not fit the log. */
  receive(log: DeviceLogState, envelopes: ReceivedEnvelopes): Promise<void>
  /** To be stored with the entry that starts the epoch; call `keep` after. */
  saving(n: number, secret: Uint8Array): StoreOperation
  keep(n: number, secret: Uint8Array): void
  secretOf(n: number): Uint8Array | undefined
  /** The key of an epoch's events. */
  contentKey(n: number): Uint8Array | undefined
  /** `undefined` before the first epoch's secret is here. */
  streamId(name: string): StreamId | undefined
  /** Overwrites what is in memory. */
  forget(): void
}

export interface EpochKeysParts {
  readonly store: Store
  readonly sealer: AtRestSealer
  readonly crypto: Crypto
  readonly keys: DeviceKeys
  readonly userId: DeviceLogState['userId']
}

/** Names of streams whose ids are remembered. */
const MAX_REMEMBERED_STREAMS = 1024

export async function openEpochKeys({ store, sealer, crypto, keys, userId }: EpochKeysParts): Promise<EpochKeys> {
  const secretByEpoch = new Map<number, Uint8Array>()
  const contentKeyByEpoch = new Map<number, Uint8Array>()
  const streamIdByName = new Map<string, StreamId>()
  for await (const [key, sealed] of store.range(keysUnder('epoch/'))) {
    secretByEpoch.set(counterOf(key), sealer.open(key, sealed))
  }

  const saving = (n: number, secret: Uint8Array): StoreOperation =>
    put(storeKeys.epochSecret(n), sealer.seal(storeKeys.epochSecret(n), secret))

  /** By this device's own box, or by the link from the epoch after it. */
  const open = async (
    log: DeviceLogState,
    n: number,
    envelopes: ReceivedEnvelopes,
    opened: ReadonlyMap<number, Uint8Array>,
  ): Promise<Uint8Array> => {
    const epoch = findEpoch(log, n)
    if (epoch === undefined) throw new AlarmError('epoch_key_invalid', { epoch: n, reason: 'unknown_epoch' })
    const box = envelopes.boxes.get(n)
    if (box !== undefined) {
      const device = { deviceId: keys.deviceId, ...keys.secrets }
      const result = await openEpoch(crypto, userId, epoch, device, box)
      if (result.ok) return result.secret
      throw new AlarmError('epoch_key_invalid', { epoch: n, reason: result.alarm })
    }
    const next = findEpoch(log, n + 1)
    const nextSecret = opened.get(n + 1) ?? secretByEpoch.get(n + 1)
    const prevBox = envelopes.prevBoxes.get(n + 1)
    if (next === undefined || nextSecret === undefined || prevBox === undefined) {
      throw new AlarmError('epoch_key_invalid', { epoch: n, reason: 'withheld' })
    }
    const result = openPreviousEpoch(crypto, userId, next, epoch, nextSecret, prevBox)
    if (result.ok) return result.secret
    throw new AlarmError('epoch_key_invalid', { epoch: n, reason: result.alarm })
  }

  return {
    deviceId: keys.deviceId,
    firstMissing: (log) => {
      for (let n = 1; n <= log.epoch.n; n++) if (!secretByEpoch.has(n)) return n
      return undefined
    },
    receive: async (log, envelopes) => {
      const opened = new Map<number, Uint8Array>()
      for (let n = log.epoch.n; n >= 1; n--) {
        if (!secretByEpoch.has(n)) opened.set(n, await open(log, n, envelopes, opened))
      }
      await store.batch([...opened].map(([n, secret]) => saving(n, secret)))
      for (const [n, secret] of opened) secretByEpoch.set(n, secret)
    },
    saving,
    keep: (n, secret) => {
      secretByEpoch.set(n, secret)
    },
    secretOf: (n) => secretByEpoch.get(n),
    contentKey: (n) => {
      const known = contentKeyByEpoch.get(n)
      const secret = secretByEpoch.get(n)
      if (known !== undefined || secret === undefined) return known
      const key = eventKey(crypto, userId, n, secret)
      contentKeyByEpoch.set(n, key)
      return key
    },
    streamId: (name) => {
      const known = streamIdByName.get(name)
      const first = secretByEpoch.get(1)
      if (known !== undefined || first === undefined) return known
      if (streamIdByName.size >= MAX_REMEMBERED_STREAMS) streamIdByName.clear()
      const id = streamIdOf(crypto, userId, first, name)
      streamIdByName.set(name, id)
      return id
    },
    forget: () => {
      for (const secret of [...secretByEpoch.values(), ...contentKeyByEpoch.values()]) secret.fill(0)
      secretByEpoch.clear()
      contentKeyByEpoch.clear()
      streamIdByName.clear()
    },
  }
}
