// A client of the handshake written a second time, from docs/PROTOCOL.md A and over node:crypto alone: it shares
// no line with the product, reads what a server answers, and can say what an honest client never would.

import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  verify,
} from 'node:crypto'

const SPKI_X25519 = Buffer.from('302a300506032b656e032100', 'hex')
const SPKI_ED25519 = Buffer.from('302a300506032b6570032100', 'hex')

const sha256 = (data: Uint8Array): Buffer => createHash('sha256').update(data).digest()
const hmac = (key: Uint8Array, data: Uint8Array): Buffer => createHmac('sha256', key).update(data).digest()

function lengthPrefixed(data: Uint8Array): Buffer {
  const length = Buffer.alloc(4)
  length.writeUInt32BE(data.length)
  return Buffer.concat([length, data])
}

/** One block of HKDF-Expand-Label is enough for every secret here. */
function expandLabel(secret: Uint8Array, label: string, context: Uint8Array, length = 32): Buffer {
  const name = Buffer.from(`valise ${label}`)
  const info = Buffer.concat([
    Buffer.of(length >> 8, length & 0xff, name.length),
    name,
    Buffer.of(context.length),
    context,
    Buffer.of(1),
  ])
  return hmac(secret, info).subarray(0, length)
}

const NOTHING = Buffer.alloc(0)
const finishedMac = (secret: Uint8Array, transcript: Uint8Array): Buffer =>
  hmac(expandLabel(secret, 'finished', NOTHING), sha256(transcript))

const signingInput = (context: string, message: Uint8Array): Buffer =>
  Buffer.concat([Buffer.alloc(64, 0x20), Buffer.from(`valise ${context}\0`), message])

function seal(secret: Uint8Array, name: string, plaintext: Uint8Array): Buffer {
  const nonce = expandLabel(secret, 'iv', NOTHING, 12)
  const cipher = createCipheriv('aes-256-gcm', expandLabel(secret, 'key', NOTHING), nonce)
  cipher.setAAD(Buffer.from(name))
  return Buffer.concat([cipher.update(plaintext), cipher.final(), cipher.getAuthTag()])
}

function open(secret: Uint8Array, name: string, sealed: Buffer): Buffer {
  const nonce = expandLabel(secret, 'iv', NOTHING, 12)
  const cipher = createDecipheriv('aes-256-gcm', expandLabel(secret, 'key', NOTHING), nonce, { authTagLength: 16 })
  cipher.setAAD(Buffer.from(name))
  cipher.setAuthTag(sealed.subarray(-16))
  return Buffer.concat([cipher.update(sealed.subarray(0, -16)), cipher.final()])
}

/** The parts of LP | LP | LP. */
function splitProof(plaintext: Buffer): [Buffer, Buffer, Buffer] {
  const parts: Buffer[] = []
  let at = 0
  while (at < plaintext.length) {
    const length = plaintext.readUInt32BE(at)
    parts.push(plaintext.subarray(at + 4, at + 4 + length))
    at += 4 + length
  }
  if (parts.length !== 3 || at !== plaintext.length) throw new Error('a proof has three parts')
  return parts as [Buffer, Buffer, Buffer]
}

export interface Claim {
  readonly mode: number
  readonly userId: Uint8Array
  readonly deviceId: Uint8Array
  readonly publicKey: Uint8Array
  readonly logSeq: bigint
  readonly logHead: Uint8Array
  readonly capabilities: number
  readonly clientInfo: Uint8Array
}

export const honestClaim: Claim = {
  mode: 0,
  userId: Buffer.alloc(32, 1),
  deviceId: Buffer.alloc(16, 2),
  publicKey: Buffer.alloc(32),
  logSeq: 7n,
  logHead: Buffer.alloc(32, 3),
  capabilities: 1,
  clientInfo: Buffer.from('by hand'),
}

function encodeClaim(claim: Claim): Buffer {
  const logSeq = Buffer.alloc(8)
  logSeq.writeBigUInt64BE(claim.logSeq)
  const capabilities = Buffer.alloc(4)
  capabilities.writeUInt32BE(claim.capabilities)
  return Buffer.concat([
    Buffer.of(claim.mode),
    claim.userId,
    claim.deviceId,
    claim.publicKey,
    logSeq,
    claim.logHead,
    capabilities,
    lengthPrefixed(claim.clientInfo),
  ])
}

/** What a test may do to the proof before it is sealed. */
export interface Tampering {
  readonly signature?: (signature: Buffer) => Buffer
  readonly finished?: (mac: Buffer) => Buffer
  readonly plaintext?: (plaintext: Buffer) => Buffer
}

export interface HandClient {
  readonly hello: string
  /** Reads the server's answer and checks all of it; throws when anything is off. */
  readServer(reply: string): { publicKey: Buffer; policy: Buffer }
  writeAuth(claim: Claim, deviceKey: KeyObject, tampering?: Tampering): string
  /** After `writeAuth`. */
  sessionSecrets(): Record<'masterSecret' | 'transcriptHash' | 'clientTraffic' | 'serverTraffic' | 'sessionId', Buffer>
}

export function createHandClient(
  options: { suites?: number[]; kemKey?: Uint8Array; version?: number; keyShare?: Uint8Array } = {},
): HandClient {
  const pair = generateKeyPairSync('x25519')
  const suites = options.suites ?? [1]
  const clientHello = Buffer.concat([
    Buffer.of(options.version ?? 1, suites.length, ...suites.flatMap((suite) => [suite >> 8, suite & 0xff])),
    randomBytes(32),
    options.keyShare ?? pair.publicKey.export({ type: 'spki', format: 'der' }).subarray(-32),
    Buffer.alloc(32, 9),
    lengthPrefixed(options.kemKey ?? NOTHING),
  ])
  let transcript = Buffer.concat([Buffer.from('valise handshake\0'), lengthPrefixed(clientHello)])
  let handshakeSecret: Uint8Array = NOTHING
  let clientHandshake: Uint8Array = NOTHING

  const append = (part: Uint8Array): void => {
    transcript = Buffer.concat([transcript, lengthPrefixed(part)])
  }

  return {
    hello: JSON.stringify({ type: 'client_hello', body: clientHello.toString('base64url') }),
    readServer: (reply) => {
      const frame = JSON.parse(reply) as { type: string; body: string; auth: string }
      const serverHello = Buffer.from(frame.body, 'base64url')
      if (serverHello.length !== 71 || serverHello.readUInt16BE(1) !== 1 || serverHello.readUInt32BE(67) !== 0) {
        throw new Error('an unexpected server hello')
      }
      const keyShare = serverHello.subarray(35, 67)
      const der = { key: Buffer.concat([SPKI_X25519, keyShare]), format: 'der', type: 'spki' } as const
      const shared = diffieHellman({ privateKey: pair.privateKey, publicKey: createPublicKey(der) })
      append(serverHello)
      const zeros = Buffer.alloc(32)
      const early = hmac(zeros, zeros)
      handshakeSecret = hmac(expandLabel(early, 'derived', sha256(NOTHING)), shared)
      clientHandshake = expandLabel(handshakeSecret, 'c hs traffic', sha256(transcript))
      const serverHandshake = expandLabel(handshakeSecret, 's hs traffic', sha256(transcript))
      const proof = splitProof(open(serverHandshake, 'server_hello', Buffer.from(frame.auth, 'base64url')))
      const [claim, signature, finished] = proof
      const publicKey = claim.subarray(0, 32)
      append(claim)
      const key = createPublicKey({ key: Buffer.concat([SPKI_ED25519, publicKey]), format: 'der', type: 'spki' })
      if (!verify(null, signingInput('server_hello', sha256(transcript)), key, signature)) throw new Error('signature')
      append(signature)
      if (!finished.equals(finishedMac(serverHandshake, transcript))) throw new Error('Finished')
      append(finished)
      return { publicKey, policy: claim.subarray(32) }
    },
    writeAuth: (claim, deviceKey, tampering = {}) => {
      const claimBytes = encodeClaim(claim)
      append(claimBytes)
      const honestSignature = sign(null, signingInput('client_auth', sha256(transcript)), deviceKey)
      const signature = tampering.signature?.(honestSignature) ?? honestSignature
      append(signature)
      const mac = finishedMac(clientHandshake, transcript)
      const finished = tampering.finished?.(mac) ?? mac
      append(finished)
      const plaintext = Buffer.concat([claimBytes, signature, finished].map(lengthPrefixed))
      const sealed = seal(clientHandshake, 'client_auth', tampering.plaintext?.(plaintext) ?? plaintext)
      return JSON.stringify({ type: 'client_auth', auth: sealed.toString('base64url') })
    },
    sessionSecrets: () => {
      const salt = expandLabel(handshakeSecret, 'derived', sha256(NOTHING))
      const masterSecret = hmac(salt, Buffer.alloc(32))
      const transcriptHash = sha256(transcript)
      return {
        masterSecret,
        transcriptHash,
        clientTraffic: expandLabel(masterSecret, 'c ap traffic', transcriptHash),
        serverTraffic: expandLabel(masterSecret, 's ap traffic', transcriptHash),
        sessionId: expandLabel(masterSecret, 'session id', transcriptHash, 16),
      }
    },
  }
}
