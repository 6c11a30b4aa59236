// Starts key epochs and receives them (PROTOCOL D). A receiver trusts a secret only when the box is the one the signed
// entry commits to, opens, and yields the secret of the entry's commitment; otherwise it says what does not fit.

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
import { createEpochSecret, epochCommit, openLink, sealLink } from './epoch.ts'

export interface AddressedBox {
  readonly deviceId: DeviceId
  readonly box: Uint8Array
}

/** The secret of an epoch that a new one links to. */
export interface OlderSecret {
  readonly n: number
  readonly secret: Uint8Array
}

/** The box of a link to the older epoch `n`. */
export interface LinkBox {
  readonly n: number
  readonly box: Uint8Array
}

/** A new epoch: `start` goes into the entry, `boxes` and `links` go with it, `secret` stays here. */
export interface SealedEpoch {
  readonly secret: Uint8Array
  readonly start: EpochStart
  readonly boxes: readonly AddressedBox[]
  readonly links: readonly LinkBox[]
}

async function sealEpoch(
  crypto: Crypto,
  place: { readonly userId: UserId; readonly n: number; readonly logHead: Uint8Array },
  members: readonly DeviceRecord[],
  older: readonly OlderSecret[],
): Promise<SealedEpoch> {
  const { userId, n, logHead } = place
  const secret = createEpochSecret(crypto)
  const boxes: AddressedBox[] = []
  for (const record of members) {
    const deviceId = deviceIdOf(crypto, record)
    boxes.push({ deviceId, box: await sealBox(crypto, record, { userId, epochN: n, deviceId, logHead }, secret) })
  }
  boxes.sort((a, b) => (toHex(a.deviceId) < toHex(b.deviceId) ? -1 : 1))
  const links = older.map((each): LinkBox => {
    return { n: each.n, box: sealLink(crypto, { userId, n, prevN: each.n }, secret, each.secret) }
  })
  const start: EpochStart = {
    n,
    commit: epochCommit(crypto, userId, n, secret),
    members: boxes.map(({ deviceId, box }) => ({ deviceId, boxHash: boxHash(crypto, box) })),
    links: links.map((link) => ({ n: link.n, boxHash: boxHash(crypto, link.box) })),
  }
  return { secret, start, boxes, links }
}

/** Epoch 1, for genesis. */
export const sealFirstEpoch = (crypto: Crypto, members: readonly DeviceRecord[]): Promise<SealedEpoch> =>
  sealEpoch(crypto, { userId: noUserId(), n: 1, logHead: new Uint8Array(32) }, members, [])

/** The epoch after the current one; `members` are exactly the key holders after the entry, `older` as `chooseLinks` says. */
export const sealNextEpoch = (
  crypto: Crypto,
  state: DeviceLogState,
  members: readonly DeviceRecord[],
  older: readonly OlderSecret[],
): Promise<SealedEpoch> => {
  const place = { userId: state.userId, n: state.epoch.n + 1, logHead: state.head }
  return sealEpoch(crypto, place, members, older)
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

/** Opens an older epoch of the verified log by the link that leads to it from `epoch`. */
export function openLinkedEpoch(
  crypto: Crypto,
  userId: UserId,
  epoch: EpochState,
  older: EpochState,
  secret: Uint8Array,
  box: Uint8Array,
): OpenedEpoch {
  const link = epoch.links.find(({ n }) => n === older.n)
  if (link === undefined) return refuse('not_linked')
  if (!equalBytes(link.boxHash, boxHash(crypto, box))) return refuse('box_hash_mismatch')
  return checkCommit(crypto, userId, older, openLink(crypto, { userId, n: epoch.n, prevN: older.n }, secret, box))
}
