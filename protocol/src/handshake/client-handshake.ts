// The client's side of a handshake: one hello out, one answer in, one proof out. It believes nothing before the
// pinned key, the signature and the Finished MAC have all been checked.

import { equalBytes } from '../bytes.ts'
import type { Crypto, KeyAgreement, Signer } from '../crypto.ts'
import { signWithContext, verifyWithContext } from '../kdf.ts'
import {
  type AuthProof,
  type ClientIdentity,
  encodeAuthProof,
  encodeClientAuth,
  parseAuthProof,
  parseServerAuth,
  type ServerAuth,
} from './auth.ts'
import { encodeClientHello, parseServerHello, SUITE_X25519 } from './hello.ts'
import {
  deriveHandshakeSecrets,
  deriveSessionSecrets,
  deriveTrafficKeys,
  eraseSecrets,
  finishedMac,
  type HandshakeSecrets,
  type SessionSecrets,
} from './key-schedule.ts'
import { serverFingerprint } from './server-key.ts'
import {
  CLIENT_AUTH_DATA,
  encodeClientAuthFrame,
  encodeClientHelloFrame,
  parseServerHelloFrame,
  SERVER_HELLO_DATA,
} from './text-frames.ts'
import { createTranscript, type Transcript } from './transcript.ts'

export interface ClientHandshakeParts {
  readonly crypto: Crypto
  /** The device's identity key. */
  readonly signer: Signer
  readonly identity: ClientIdentity
  /** SHA-256 of the server's identity key. */
  readonly pinnedFingerprint: Uint8Array
  /** SHA-256 of the key that will follow it; a client that does not know it yet learns it from `server`. */
  readonly pinnedNextFingerprint?: Uint8Array | undefined
}

export type ClientHandshakeFailure =
  /** The server proved this key, which is not the pinned one. */
  | { ok: false; reason: 'wrong_server_key'; publicKey: Uint8Array }
  /** The server proved the pinned key and named another next key than the pinned one. */
  | { ok: false; reason: 'next_key_changed' }
  | { ok: false; reason: 'handshake_failed' }

export type ClientHandshakeResult =
  | { ok: true; authText: string; secrets: SessionSecrets; server: ServerAuth }
  | ClientHandshakeFailure

export interface ClientHandshake {
  /** The first text frame to send. */
  readonly hello: string
  /** Takes the server's answer, once; a second call fails. Rejects only when the signer does. */
  finish(serverHelloText: string): Promise<ClientHandshakeResult>
}

const failed = { ok: false, reason: 'handshake_failed' } as const

export function createClientHandshake(parts: ClientHandshakeParts): ClientHandshake {
  const { crypto, identity, pinnedFingerprint, pinnedNextFingerprint, signer } = parts
  const claim = encodeClientAuth(identity)
  const agreement = crypto.createKeyAgreement()
  const hello = encodeClientHello({
    suites: [SUITE_X25519],
    nonce: crypto.randomBytes(32),
    keyShare: agreement.publicKey,
    serverFingerprint: pinnedFingerprint,
    kemKey: new Uint8Array(0),
  })
  let isFinished = false

  const prove = async (transcript: Transcript, secrets: HandshakeSecrets): Promise<string> => {
    transcript.append(claim)
    const signature = await signWithContext(signer, 'client_auth', transcript.hash())
    transcript.append(signature)
    const finished = finishedMac(crypto, secrets.clientHandshake, transcript.hash())
    transcript.append(finished)
    const { aead, iv } = deriveTrafficKeys(crypto, secrets.clientHandshake)
    return encodeClientAuthFrame(aead.seal(iv, CLIENT_AUTH_DATA, encodeAuthProof({ claim, signature, finished })))
  }

  return {
    hello: encodeClientHelloFrame(hello),
    finish: async (serverHelloText) => {
      if (isFinished) return failed
      isFinished = true
      const answer = parseServerHelloFrame(serverHelloText)
      if (answer === undefined) return failed
      const transcript = createTranscript(crypto)
      transcript.append(hello)
      transcript.append(answer.body)
      const secrets = agreeOnSecrets(crypto, agreement, answer.body, transcript)
      if (secrets === undefined) return failed
      try {
        const server = openServerAuth(crypto, secrets, answer.auth, transcript)
        if (!server.ok) return server
        const fault = judgeServerKeys(crypto, server.auth, pinnedFingerprint, pinnedNextFingerprint)
        if (fault !== undefined) return fault
        const authText = await prove(transcript, secrets)
        const sessionSecrets = deriveSessionSecrets(crypto, secrets.handshakeSecret, transcript.hash())
        return { ok: true, authText, secrets: sessionSecrets, server: server.auth }
      } finally {
        eraseSecrets(secrets.handshakeSecret, secrets.clientHandshake, secrets.serverHandshake)
      }
    },
  }
}

/** `undefined` unless the hello parses, chose the suite that was offered, and its key share gives a secret. */
function agreeOnSecrets(
  crypto: Crypto,
  agreement: KeyAgreement,
  helloBytes: Uint8Array,
  transcript: Transcript,
): HandshakeSecrets | undefined {
  const hello = parseServerHello(helloBytes)
  if (hello === undefined || hello.suite !== SUITE_X25519) return undefined
  const sharedSecret = agreement.agree(hello.keyShare)
  if (sharedSecret === undefined) return undefined
  const secrets = deriveHandshakeSecrets(crypto, sharedSecret, transcript.hash())
  eraseSecrets(sharedSecret)
  return secrets
}

/** Opens and checks the server's proof, and appends it to the transcript as it was received. */
function openServerAuth(
  crypto: Crypto,
  secrets: HandshakeSecrets,
  sealed: Uint8Array,
  transcript: Transcript,
): { ok: true; auth: ServerAuth } | typeof failed {
  const { aead, iv } = deriveTrafficKeys(crypto, secrets.serverHandshake)
  const plaintext = aead.open(iv, SERVER_HELLO_DATA, sealed)
  const proof: AuthProof | undefined = plaintext && parseAuthProof(plaintext)
  const auth = proof && parseServerAuth(proof.claim)
  if (proof === undefined || auth === undefined) return failed
  transcript.append(proof.claim)
  if (!verifyWithContext(crypto, auth.publicKey, 'server_hello', transcript.hash(), proof.signature)) return failed
  transcript.append(proof.signature)
  const expected = finishedMac(crypto, secrets.serverHandshake, transcript.hash())
  if (!crypto.isEqual(proof.finished, expected)) return failed
  transcript.append(proof.finished)
  return { ok: true, auth }
}

/** The keys that the server has proved, against the pinned ones. */
function judgeServerKeys(
  crypto: Crypto,
  { publicKey, nextFingerprint }: ServerAuth,
  pinnedFingerprint: Uint8Array,
  pinnedNextFingerprint: Uint8Array | undefined,
): ClientHandshakeFailure | undefined {
  if (!equalBytes(serverFingerprint(crypto, publicKey), pinnedFingerprint)) {
    return { ok: false, reason: 'wrong_server_key', publicKey }
  }
  if (pinnedNextFingerprint === undefined || equalBytes(nextFingerprint, pinnedNextFingerprint)) return undefined
  return { ok: false, reason: 'next_key_changed' }
}
