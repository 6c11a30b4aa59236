// A manager in the wrong hands that signs true entries over false boxes: what only a device that opens them, or computes
// them itself, finds out.

import {
  boxHash,
  buildAdd,
  buildRotate,
  type DeviceId,
  deviceIdOf,
  keyHolders,
  type SealedLink,
  signDevicePop,
  toHex,
} from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { toLinks } from '../../src/account/append-entry.ts'
import { sealBox } from '../../src/sealing/box.ts'
import { createDeviceKeys, type DeviceKeys } from '../../src/sealing/device-keys.ts'
import { type OlderSecret, type SealedEpoch, sealNextEpoch } from '../../src/sealing/epoch-boxes.ts'
import { authorOf, type TestDevice } from './test-device.ts'
import type { TestServer } from './test-server.ts'

export interface FalseEpoch {
  /** Whose boxes hold another secret. */
  readonly cheated?: readonly DeviceId[]
  /** Default: the epoch before. */
  readonly links?: 'false' | 'none'
}

/** All devices see that the log has grown. */
export const tell = (server: TestServer): void =>
  server.push({ type: 'device_log', request_id: null, entries: [], head_seq: server.state!.seq })

/** What the thief keeps: it opens what it made. */
export async function rotateFalsely(
  server: TestServer,
  thief: TestDevice,
  { cheated = [], links }: FalseEpoch,
): Promise<SealedEpoch> {
  const state = server.state!
  const { n } = state.epoch
  const secret = thief.client.device.epochKeys.secretOf(n)
  const older: OlderSecret[] = secret === undefined || links === 'none' ? [] : [{ n, secret }]
  const records = keyHolders(state).map(({ record }) => record)
  const epoch = await sealNextEpoch(crypto, state, records, older)
  const isCheated = new Set(cheated.map(toHex))
  const boxes = await Promise.all(
    keyHolders(state).map(async ({ deviceId, record }) => {
      const place = { userId: state.userId, epochN: n + 1, deviceId, logHead: state.head }
      const sealed = isCheated.has(toHex(deviceId)) ? new Uint8Array(32).fill(66) : epoch.secret
      return { device_id: deviceId, box: await sealBox(crypto, record, place, sealed) }
    }),
  )
  const linkBoxes: SealedLink[] =
    links === 'false' ? [{ prev_epoch: n, box: new Uint8Array(48).fill(1) }] : toLinks(epoch)
  const start = {
    ...epoch.start,
    members: boxes.map(({ device_id, box }) => ({ deviceId: device_id, boxHash: boxHash(crypto, box) })),
    links: linkBoxes.map(({ prev_epoch, box }) => ({ n: prev_epoch, boxHash: boxHash(crypto, box) })),
  }
  server.append(await buildRotate(state, authorOf(thief), start), boxes, linkBoxes)
  tell(server)
  return epoch
}

/** Signs a device in with a box that holds another secret, or whose key takes no box at all. */
export async function addFalsely(server: TestServer, thief: TestDevice, kemPub?: Uint8Array): Promise<DeviceKeys> {
  const state = server.state!
  const made = await createDeviceKeys(crypto, 'member')
  const keys = kemPub === undefined ? made : { ...made, record: { ...made.record, kemPub } }
  const deviceId = deviceIdOf(crypto, keys.record)
  const place = { userId: state.userId, epochN: state.epoch.n, deviceId, logHead: state.head }
  const box = await sealBox(crypto, keys.record, place, new Uint8Array(32).fill(66))
  const proof = await signDevicePop(keys.signer, state.userId, keys.record)
  const parts = { record: keys.record, boxHash: boxHash(crypto, box), proof }
  server.append(await buildAdd(state, authorOf(thief), parts), [{ device_id: deviceId, box }])
  tell(server)
  return { ...keys, deviceId }
}
