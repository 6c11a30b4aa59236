// The content keys this device has: the secret of each key epoch (sealed at rest), and what is derived from it.
// A secret is kept only when it is the one that the device log commits to. An epoch whose box or links do not open stays
// closed: its signer is at fault, not the server, and a later link may open it.

import { type Crypto, type DeviceId, type DeviceLogState, equalBytes, findEpoch, type StreamId } from '@valise/protocol'
import { AlarmError } from '../alarm.ts'
import type { DeviceKeys } from '../sealing/device-keys.ts'
import { eventKey, streamIdOf } from '../sealing/epoch.ts'
import { type EpochAlarm, openEpoch, openLinkedEpoch } from '../sealing/epoch-boxes.ts'
import type { AtRestSealer } from '../store/at-rest.ts'
import { counterOf, keysUnder, storeKeys } from '../store/layout.ts'
import { put, type Store, type StoreOperation } from '../store/store.ts'

/** What the server keeps for this device: its boxes by epoch, and the boxes of links. */
export interface ReceivedEnvelopes {
  readonly boxes: ReadonlyMap<number, Uint8Array>
  /** By the epoch that links, then by the older epoch. */
  readonly links: ReadonlyMap<number, ReadonlyMap<number, Uint8Array>>
}

export interface EpochKeys {
  /** Whose they are. */
  readonly deviceId: DeviceId
  /** The lowest epoch without a secret here, if there may be one to fetch. */
  firstMissing(log: DeviceLogState): number | undefined
  /**
   * Opens what is missing and stores it; what does not open stays closed. Throws the alarm `epoch_key_invalid` when the
   * server does not show a box that the log commits to, or shows another.
   */
  receive(log: DeviceLogState, envelopes: ReceivedEnvelopes): Promise<void>
  /** The epochs up to the current one that this device cannot open. */
  closed(log: DeviceLogState): number[]
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

const invalid = (epoch: number, reason: string): AlarmError => new AlarmError('epoch_key_invalid', { epoch, reason })

/** A box that the log does not commit to is the server's doing; a committed one that is bad is its signer's. */
function refuseOther(n: number, alarm: EpochAlarm | undefined): void {
  if (alarm === 'box_hash_mismatch') throw invalid(n, alarm)
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

  /** The newest epoch whose envelopes were looked at: what is closed since then waits for the next one. */
  let lookedAtEpoch = 0

  const missing = (log: DeviceLogState): number[] => {
    const numbers: number[] = []
    for (let n = 1; n <= log.epoch.n; n++) if (!secretByEpoch.has(n)) numbers.push(n)
    return numbers
  }

  /** By this device's own box, or by a link from a newer epoch; undefined when neither opens. */
  const open = async (
    log: DeviceLogState,
    n: number,
    envelopes: ReceivedEnvelopes,
    opened: ReadonlyMap<number, Uint8Array>,
  ): Promise<Uint8Array | undefined> => {
    const epoch = findEpoch(log, n)
    if (epoch === undefined) throw invalid(n, 'unknown_epoch')
    let isWithheld = false
    if (epoch.boxes.some(({ deviceId }) => equalBytes(deviceId, keys.deviceId))) {
      const box = envelopes.boxes.get(n)
      const device = { deviceId: keys.deviceId, ...keys.secrets }
      const result = box && (await openEpoch(crypto, userId, epoch, device, box))
      if (result?.ok) return result.secret
      refuseOther(n, result?.alarm)
      isWithheld = box === undefined
    }
    for (let newer = log.epoch.n; newer > n; newer--) {
      const from = findEpoch(log, newer)
      const secret = opened.get(newer) ?? secretByEpoch.get(newer)
      if (from === undefined || secret === undefined || !from.links.some((link) => link.n === n)) continue
      const box = envelopes.links.get(newer)?.get(n)
      const result = box && openLinkedEpoch(crypto, userId, from, epoch, secret, box)
      if (result?.ok) return result.secret
      refuseOther(n, result?.alarm)
      isWithheld ||= box === undefined
    }
    if (isWithheld) throw invalid(n, 'withheld')
    return undefined
  }

  return {
    deviceId: keys.deviceId,
    firstMissing: (log) => (lookedAtEpoch === log.epoch.n ? undefined : missing(log)[0]),
    closed: missing,
    receive: async (log, envelopes) => {
      const opened = new Map<number, Uint8Array>()
      for (const n of missing(log).reverse()) {
        const secret = await open(log, n, envelopes, opened)
        if (secret !== undefined) opened.set(n, secret)
      }
      await store.batch([...opened].map(([n, secret]) => saving(n, secret)))
      for (const [n, secret] of opened) secretByEpoch.set(n, secret)
      lookedAtEpoch = log.epoch.n
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
