// A handshake one message at a time, so that a test can lay its hand on each of them, and how the server took it.

import { createPrivateKey, type KeyObject } from 'node:crypto'
import {
  type ClientHandshake,
  type ClientIdentity,
  createClientHandshake,
  fromBase64Url,
  noUserId,
  toBase64Url,
} from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import type { Claim } from '../../../protocol/tests/support/hand-client.ts'
import type { TestDevice } from '../support/account.ts'
import { type CloseFrame, dial, type RawSocket, type SessionTarget } from '../support/raw-device.ts'

const DEADLINE_MS = 20_000

/** Rejects after a deadline, naming what did not come. */
export async function within<T>(what: string, promise: Promise<T>): Promise<T> {
  let deadline: NodeJS.Timeout | undefined
  const expired = new Promise<never>((_resolve, reject) => {
    deadline = setTimeout(() => reject(new Error(`waited too long for ${what}`)), DEADLINE_MS)
  })
  try {
    return await Promise.race([promise, expired])
  } finally {
    clearTimeout(deadline)
  }
}

/** How the server ends the connection. */
export const endOf = (raw: Pick<RawSocket, 'closed'>): Promise<CloseFrame> => within('the close', raw.closed)

/** The server's next text frame, or how it ended the connection instead. */
export async function answerOf(raw: RawSocket): Promise<string | CloseFrame> {
  return within(
    'an answer or the close',
    raw.nextText().catch(() => raw.closed),
  )
}

export const identityOf = (device: TestDevice, changes: Partial<ClientIdentity> = {}): ClientIdentity => ({
  mode: 'device',
  userId: device.userId,
  deviceId: device.deviceId,
  publicKey: device.keys.record.edPub,
  logSeq: device.account.log.seq,
  logHead: device.account.log.head,
  canRekey: true,
  clientInfo: 'test',
  ...changes,
})

export interface HandshakeStart {
  readonly raw: RawSocket
  /** The honest client; its hello is not sent yet. */
  readonly client: ClientHandshake
}

export async function startHandshake(
  target: SessionTarget,
  device: TestDevice,
  changes: Partial<ClientIdentity> = {},
): Promise<HandshakeStart> {
  const { signer } = device.keys
  const identity = identityOf(device, changes)
  const raw = await dial(target.url)
  const parts = { crypto: nodeCrypto, signer, identity, pinnedFingerprint: target.fingerprint }
  return { raw, client: createClientHandshake(parts) }
}

export interface ProvedHandshake extends HandshakeStart {
  readonly finished: Extract<Awaited<ReturnType<ClientHandshake['finish']>>, { ok: true }>
}

/** Up to the point where `finished.authText` is to be sent. */
export async function proveHandshake(
  target: SessionTarget,
  device: TestDevice,
  changes: Partial<ClientIdentity> = {},
): Promise<ProvedHandshake> {
  const { raw, client } = await startHandshake(target, device, changes)
  raw.socket.send(client.hello)
  const finished = await client.finish(await within('server_hello', raw.nextText()))
  if (!finished.ok) throw new Error(`the honest client refused: ${finished.reason}`)
  return { raw, client, finished }
}

export const isClose = (answer: string | CloseFrame): answer is CloseFrame => typeof answer !== 'string'

/** The bytes with one bit of byte `at` changed, another bit from byte to byte. */
export function flipByte(bytes: Uint8Array, at: number): Uint8Array {
  const flipped = bytes.slice()
  flipped[at] = flipped[at]! ^ (1 << (at % 8))
  return flipped
}

/** The bytes that a field of a text frame carries. */
export function fieldBytes(text: string, field: string): Uint8Array {
  const bytes = fromBase64Url(JSON.parse(text)[field])
  if (bytes === undefined) throw new Error(`${field} is not base64url`)
  return bytes
}

export const withField = (text: string, field: string, bytes: Uint8Array): string =>
  JSON.stringify({ ...JSON.parse(text), [field]: toBase64Url(bytes) })

/** Every byte of a field, each flipped in a copy of the frame. */
export const flipInField = (text: string, field: string, at: number): string =>
  withField(text, field, flipByte(fieldBytes(text, field), at))

export const indexes = (count: number): number[] => Array.from({ length: count }, (_, index) => index)

/** Runs `work` for each item, a few at a time, so that hundreds of handshakes take no time to speak of. */
export async function forEachOf<Item>(items: readonly Item[], work: (item: Item) => Promise<void>): Promise<void> {
  const queue = [...items]
  const run = async (): Promise<void> => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item)
  }
  await Promise.all(indexes(8).map(run))
}

const PKCS8_ED25519 = Buffer.from('302e020100300506032b657004220420', 'hex')

/** The device's claim and key, for the client written by hand, which says what the product's own never would. */
export function claimOf(device: TestDevice): { claim: Claim; key: KeyObject } {
  const der = Buffer.concat([PKCS8_ED25519, device.keys.secrets.signSeed])
  return {
    claim: {
      mode: 0,
      userId: device.userId,
      deviceId: device.deviceId,
      publicKey: new Uint8Array(32),
      logSeq: BigInt(device.account.log.seq),
      logHead: device.account.log.head,
      capabilities: 1,
      clientInfo: Buffer.from('test'),
    },
    key: createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }),
  }
}

export const registering = (claim: Claim, publicKey: Uint8Array): Claim => ({
  ...claim,
  mode: 1,
  userId: noUserId(),
  publicKey,
})
