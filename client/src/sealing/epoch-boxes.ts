// Starts key epochs and receives them (PROTOCOL D). A receiver trusts a secret only when the box is the one the signed
// entry commits to, opens, and yields the secret of the entry's commitment; anything else is an alarm, with its name.

import {
  boxHash,
  type Crypto,
  type DeviceId,
  type DeviceLogState,
  type DeviceRecord,
  deviceIdOf,
  type EpochStart,
  type EpochState,
  equalBytes,
  type KemId,
  noUserId,
  toHex,
  type UserId,
} from '@valise/protocol'
import { openBox, sealBox } from './box.ts'
import { createEpochSecret, epochCommit, openPrevBox, sealPrevBox } from './epoch.ts'

export interface AddressedBox {
  readonly deviceId: DeviceId
  readonly box: Uint8Array
}

/** A new epoch: `start` goes into the entry, `boxes` and `prevBox` go with it, `secret` stays here. */
export interface SealedEpoch {
  readonly secret: Uint8Array
  readonly start: EpochStart
  readonly boxes: readonly AddressedBox[]
  readonly prevBox: Uint8Array | undefined
}

async function sealEpoch(
  crypto: Crypto,
  place: { readonly userId: UserId; readonly n: number; readonly logHead: Uint8Array },
  members: readonly DeviceRecord[],
  previousSecret: Uint8Array | undefined,
): Promise<SealedEpoch> {
  const { userId, n, logHead } = place
  const secret = createEpochSecret(crypto)
  const boxes: AddressedBox[] = []
  for (const record of members) {
    const deviceId = deviceIdOf(crypto, record)
    boxes.push({ deviceId, box: await sealBox(crypto, record, { userId, epochN: n, deviceId, logHead }, secret) })
  }
  boxes.sort((a, b) => (toHex(a.deviceId) < toHex(b.deviceId) ? -1 : 1))
  const prevBox = previousSecret && sealPrevBox(crypto, userId, n, secret, previousSecret)
  const start: EpochStart = {
    n,
    commit: epochCommit(crypto, userId, n, secret),
    members: boxes.map(({ deviceId, box }) => ({ deviceId, boxHash: boxHash(crypto, box) })),
    links: prevBox === undefined ? [] : [{ n: n - 1, boxHash: boxHash(crypto, prevBox) }],
  }
  return { secret, start, boxes, prevBox }
}

/** Epoch 1, for genesis. */
export const sealFirstEpoch = (crypto: Crypto, members: readonly DeviceRecord[]): Promise<SealedEpoch> =>
  sealEpoch(crypto, { userId: noUserId(), n: 1, logHead: new Uint8Array(32) }, members, undefined)

/** The epoch after the current one; `members` are exactly the devices that will be active after the entry. */
export const sealNextEpoch = (
  crypto: Crypto,
  state: DeviceLogState,
  members: readonly DeviceRecord[],
  currentSecret: Uint8Array,
): Promise<SealedEpoch> => {
  const place = { userId: state.userId, n: state.epoch.n + 1, logHead: state.head }
  return sealEpoch(crypto, place, members, currentSecret)
}

/** The current epoch's box for a device that the next entry adds. */
export async function sealBoxForNewDevice(
  crypto: Crypto,
  state: DeviceLogState,
  record: DeviceRecord,
  currentSecret: Uint8Array,
): Promise<{ readonly box: Uint8Array; readonly boxHash: Uint8Array }> {
  const deviceId = deviceIdOf(crypto, record)
  const place = { userId: state.userId, epochN: state.epoch.n, deviceId, logHead: state.head }
  const box = await sealBox(crypto, record, place, currentSecret)
  return { box, boxHash: boxHash(crypto, box) }
}

export type EpochAlarm = 'not_a_member' | 'box_hash_mismatch' | 'box_unopenable' | 'commit_mismatch' | 'not_linked'

export type OpenedEpoch =
  | { readonly ok: true; readonly secret: Uint8Array }
  | { readonly ok: false; readonly alarm: EpochAlarm }

const refuse = (alarm: EpochAlarm): OpenedEpoch => ({ ok: false, alarm })

function checkCommit(crypto: Crypto, userId: UserId, epoch: EpochState, secret: Uint8Array | undefined): OpenedEpoch {
  if (secret === undefined) return refuse('box_unopenable')
  const commit = epochCommit(crypto, userId, epoch.n, secret)
  return crypto.isEqual(commit, epoch.commit) ? { ok: true, secret } : refuse('commit_mismatch')
}

/** Opens this device's box of an epoch of the verified log. */
export async function openEpoch(
  crypto: Crypto,
  userId: UserId,
  epoch: EpochState,
  device: { readonly deviceId: DeviceId; readonly kemId: KemId; readonly kemPrivateKey: Uint8Array },
  box: Uint8Array,
): Promise<OpenedEpoch> {
  const { deviceId, kemId, kemPrivateKey } = device
  const committed = epoch.boxes.find((candidate) => equalBytes(candidate.deviceId, deviceId))
  if (committed === undefined) return refuse('not_a_member')
  if (!equalBytes(committed.boxHash, boxHash(crypto, box))) return refuse('box_hash_mismatch')
  const place = {
    userId: committed.logSeq === 0 ? noUserId() : userId,
    epochN: epoch.n,
    deviceId,
    logHead: committed.logHead,
  }
  return checkCommit(crypto, userId, epoch, await openBox({ kemId, privateKey: kemPrivateKey }, place, box))
}

/** Opens the epoch before `epoch` by the link between them; `older` is that epoch in the verified log. */
export function openPreviousEpoch(
  crypto: Crypto,
  userId: UserId,
  epoch: EpochState,
  older: EpochState,
  secret: Uint8Array,
  prevBox: Uint8Array,
): OpenedEpoch {
  const link = epoch.links.find(({ n }) => n === older.n)
  if (link === undefined) return refuse('not_linked')
  if (!equalBytes(link.boxHash, boxHash(crypto, prevBox))) return refuse('box_hash_mismatch')
  return checkCommit(crypto, userId, older, openPrevBox(crypto, userId, epoch.n, secret, prevBox))
}
