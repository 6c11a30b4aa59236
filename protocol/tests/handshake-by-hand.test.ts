// The server's handshake against a client written a second time from the document: the bytes are as described,
// and what an honest client never says is refused.

import { generateKeyPairSync } from 'node:crypto'
import { expect, test } from 'vitest'
import { encodeServerAuth, parseServerAuth } from '../src/handshake/auth.ts'
import { createServerHandshake } from '../src/handshake/server-handshake.ts'
import { nodeCrypto } from '../src/node-crypto.ts'
import { SMALL_ORDER_ENCODINGS } from './support/crypto-suite.ts'
import { type Claim, createHandClient, honestClaim, type Tampering } from './support/hand-client.ts'
import { TEST_NEXT_FINGERPRINT, TEST_POLICY } from './support/session-pair.ts'

const serverSigner = nodeCrypto.createSigner(nodeCrypto.randomBytes(32))
const device = generateKeyPairSync('ed25519')
const devicePublicKey = new Uint8Array(device.publicKey.export({ type: 'spki', format: 'der' }).subarray(-32))
const createServer = () =>
  createServerHandshake({
    crypto: nodeCrypto,
    signer: serverSigner,
    nextFingerprint: TEST_NEXT_FINGERPRINT,
    policy: () => TEST_POLICY,
  })

type HelloOptions = Parameters<typeof createHandClient>[0]

async function offerHello(options: HelloOptions): Promise<string> {
  const answer = await createServer().receiveHello(createHandClient(options).hello)
  return answer.ok ? 'answered' : answer.code
}

/** What the server says to a claim: refused at once, refused after the signature, or let in. */
async function offerClaim(changes: Partial<Claim>, tampering?: Tampering): Promise<string> {
  const client = createHandClient()
  const server = createServer()
  const answer = await server.receiveHello(client.hello)
  client.readServer(answer.ok ? answer.reply : '')
  const auth = server.receiveAuth(client.writeAuth({ ...honestClaim, ...changes }, device.privateKey, tampering))
  if (!auth.ok) return 'unreadable'
  return auth.verify(devicePublicKey) === undefined ? 'unproved' : 'accepted'
}

const flipFirst = (bytes: Buffer): Buffer => {
  const changed = Buffer.from(bytes)
  changed[0] = (changed[0] ?? 0) ^ 1
  return changed
}

test('SES-1: the bytes on the wire and the secrets behind them are as the document says', async () => {
  const client = createHandClient()
  const server = createServer()
  const answer = await server.receiveHello(client.hello)
  if (!answer.ok) throw new Error(answer.code)
  const { policy, publicKey } = client.readServer(answer.reply)
  expect(new Uint8Array(publicKey)).toEqual(serverSigner.publicKey)
  expect(policy.toString('hex')).toBe(`${'07'.repeat(32)}0000018bcfe5680000000320000003e80001518000100000`)
  const auth = server.receiveAuth(client.writeAuth(honestClaim, device.privateKey))
  if (!auth.ok) throw new Error('the server refused')
  expect(auth.claim).toMatchObject({ mode: 'device', logSeq: 7, canRekey: true, clientInfo: 'by hand' })
  const secrets = auth.verify(devicePublicKey)
  for (const [name, value] of Object.entries(client.sessionSecrets())) {
    expect(Buffer.from(secrets?.[name as keyof typeof secrets] ?? []).toString('hex'), name).toBe(value.toString('hex'))
  }
})

test('SES-1: a hello offers suites that exist, suite 1 among them, and an ML-KEM key exactly with suite 2', async () => {
  const kemKey = new Uint8Array(1184)
  expect(await offerHello({})).toBe('answered')
  expect(await offerHello({ suites: [2, 1], kemKey })).toBe('answered')
  expect(await offerHello({ suites: [2], kemKey })).toBe('handshake_failed')
  expect(await offerHello({ suites: [1, 2] })).toBe('handshake_failed')
  expect(await offerHello({ suites: [1], kemKey })).toBe('handshake_failed')
  expect(await offerHello({ suites: [1, 1] })).toBe('handshake_failed')
  expect(await offerHello({ suites: [1, 3] })).toBe('handshake_failed')
  expect(await offerHello({ suites: [] })).toBe('handshake_failed')
  expect(await offerHello({ version: 2 })).toBe('version_unsupported')
})

test('SES-1: a key share that gives an all-zero secret ends the handshake', async () => {
  expect(await offerHello({ keyShare: new Uint8Array(32) })).toBe('handshake_failed')
  const one = new Uint8Array(32)
  one[0] = 1
  expect(await offerHello({ keyShare: one })).toBe('handshake_failed')
})

test('SES-1: a claim has exactly the form of its mode', async () => {
  const zeros = new Uint8Array(32)
  const publicKey = devicePublicKey
  expect(await offerClaim({})).toBe('accepted')
  expect(await offerClaim({ publicKey })).toBe('unreadable')
  expect(await offerClaim({ mode: 1, userId: zeros, publicKey })).toBe('accepted')
  expect(await offerClaim({ mode: 1, publicKey })).toBe('unreadable')
  expect(await offerClaim({ mode: 1, userId: zeros })).toBe('unreadable')
  expect(await offerClaim({ mode: 2, userId: zeros })).toBe('accepted')
  expect(await offerClaim({ mode: 2 })).toBe('unreadable')
  expect(await offerClaim({ mode: 2, userId: zeros, publicKey })).toBe('unreadable')
  expect(await offerClaim({ mode: 3 })).toBe('unreadable')
  expect(await offerClaim({ capabilities: 0 })).toBe('accepted')
  expect(await offerClaim({ capabilities: 2 })).toBe('unreadable')
  expect(await offerClaim({ capabilities: 3 })).toBe('unreadable')
  expect(await offerClaim({ logSeq: 2n ** 53n })).toBe('unreadable')
  expect(await offerClaim({ clientInfo: Buffer.alloc(64, 0x61) })).toBe('accepted')
  expect(await offerClaim({ clientInfo: Buffer.alloc(65, 0x61) })).toBe('unreadable')
  expect(await offerClaim({ clientInfo: Buffer.of(0xff) })).toBe('unreadable')
})

test('H-2: nobody registers with a key of small order, and no server has one', async () => {
  for (const encoding of SMALL_ORDER_ENCODINGS) {
    const publicKey = Buffer.from(encoding, 'hex')
    expect(await offerClaim({ mode: 1, userId: new Uint8Array(32), publicKey })).toBe('unreadable')
    expect(
      parseServerAuth(encodeServerAuth({ publicKey, nextFingerprint: TEST_NEXT_FINGERPRINT, policy: TEST_POLICY })),
    ).toBeUndefined()
  }
})

test('SES-1: a right seal does not save a wrong signature, a wrong Finished MAC or a wrong form', async () => {
  expect(await offerClaim({}, { signature: flipFirst })).toBe('unproved')
  expect(await offerClaim({}, { finished: flipFirst })).toBe('unproved')
  expect(await offerClaim({}, { signature: (signature) => signature.subarray(1) })).toBe('unreadable')
  expect(await offerClaim({}, { finished: (mac) => mac.subarray(0, 4) })).toBe('unreadable')
  expect(await offerClaim({}, { plaintext: (bytes) => Buffer.concat([bytes, Buffer.of(0)]) })).toBe('unreadable')
  expect(await offerClaim({}, { plaintext: (bytes) => bytes.subarray(0, -1) })).toBe('unreadable')
  expect(await offerClaim({}, { plaintext: () => Buffer.alloc(0) })).toBe('unreadable')
})
