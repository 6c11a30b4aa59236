// The server's side of a handshake. It tells nothing before the client has proved its key: an unknown user, an
// unknown device and a bad signature look the same and cost the same. Whether a device may enter is the
// caller's decision, between the claim and `verify`.

import { equalBytes, fromHex } from '../bytes.ts'
import type { Crypto, Signer } from '../crypto.ts'
import { signWithContext, verifyWithContext } from '../kdf.ts'
import {
  type AuthProof,
  type ClientIdentity,
  encodeAuthProof,
  encodeServerAuth,
  parseAuthProof,
  parseClientAuth,
  type ServerPolicy,
} from './auth.ts'
import { encodeServerHello, parseClientHello, SUITE_X25519 } from './hello.ts'
import {
  deriveHandshakeSecrets,
  deriveSessionSecrets,
  deriveTrafficKeys,
  eraseSecrets,
  finishedMac,
  type HandshakeSecrets,
  type SessionSecrets,
} from './key-schedule.ts'
import {
  CLIENT_AUTH_DATA,
  encodeServerHelloFrame,
  parseClientAuthFrame,
  parseClientHelloFrame,
  SERVER_HELLO_DATA,
} from './text-frames.ts'
import { createTranscript, type Transcript } from './transcript.ts'

export interface ServerHandshakeParts {
  readonly crypto: Crypto
  /** The server's identity key. */
  readonly signer: Signer
  /** SHA-256 of the key that will follow it. */
  readonly nextFingerprint: Uint8Array
  /** Asked once a handshake, so that its time is fresh. */
  readonly policy: () => ServerPolicy
}

export type HelloResult = { ok: true; reply: string } | { ok: false; code: 'handshake_failed' | 'version_unsupported' }

export type AuthResult =
  | {
      ok: true
      claim: ClientIdentity
      /**
       * The session's secrets when the client holds the private half of `publicKey`, which comes from the device log
       * (in mode `register` from the claim). Give `undefined` for a device that is not there: the same work is done,
       * and the answer is `undefined`. Answers once; a second call yields `undefined`.
       */
      verify(publicKey: Uint8Array | undefined): SessionSecrets | undefined
    }
  | { ok: false }

export interface ServerHandshake {
  /** Takes the first text frame, once. Rejects only when the signer does. */
  receiveHello(text: string): Promise<HelloResult>
  /** Takes the second text frame, once, after `receiveHello` has answered. */
  receiveAuth(text: string): AuthResult
  /** Overwrites what an abandoned handshake still holds. */
  close(): void
}

/** The public key of the first test of RFC 8032 §7.1: what an absent device's signature is checked against. */
const ABSENT_DEVICE_KEY =
  fromHex('d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a') ?? new Uint8Array(32)

type State =
  | { type: 'awaiting_hello' }
  | { type: 'answering'; secrets: HandshakeSecrets }
  | { type: 'awaiting_auth'; transcript: Transcript; secrets: HandshakeSecrets }
  | { type: 'verifying'; secrets: HandshakeSecrets }
  | { type: 'over' }

const failed = { ok: false, code: 'handshake_failed' } as const

export function createServerHandshake({
  crypto,
  signer,
  nextFingerprint,
  policy,
}: ServerHandshakeParts): ServerHandshake {
  let state: State = { type: 'awaiting_hello' }

  const end = (): void => {
    if ('secrets' in state) {
      const { handshakeSecret, clientHandshake, serverHandshake } = state.secrets
      eraseSecrets(handshakeSecret, clientHandshake, serverHandshake)
    }
    state = { type: 'over' }
  }

  /** Chooses the suite, agrees on a secret and writes the server's hello. */
  const answer = (clientHello: Uint8Array, keyShare: Uint8Array) => {
    const agreement = crypto.createKeyAgreement()
    const sharedSecret = agreement.agree(keyShare)
    if (sharedSecret === undefined) return undefined
    const hello = encodeServerHello({
      suite: SUITE_X25519,
      nonce: crypto.randomBytes(32),
      keyShare: agreement.publicKey,
      kemCiphertext: new Uint8Array(0),
    })
    const transcript = createTranscript(crypto)
    transcript.append(clientHello)
    transcript.append(hello)
    const secrets = deriveHandshakeSecrets(crypto, sharedSecret, transcript.hash())
    eraseSecrets(sharedSecret)
    return { hello, transcript, secrets }
  }

  const prove = async (transcript: Transcript, secrets: HandshakeSecrets): Promise<Uint8Array> => {
    const claim = encodeServerAuth({ publicKey: signer.publicKey, nextFingerprint, policy: policy() })
    transcript.append(claim)
    const signature = await signWithContext(signer, 'server_hello', transcript.hash())
    transcript.append(signature)
    const finished = finishedMac(crypto, secrets.serverHandshake, transcript.hash())
    transcript.append(finished)
    const { aead, iv } = deriveTrafficKeys(crypto, secrets.serverHandshake)
    return aead.seal(iv, SERVER_HELLO_DATA, encodeAuthProof({ claim, signature, finished }))
  }

  const openProof = (text: string, secrets: HandshakeSecrets): AuthProof | undefined => {
    const sealed = parseClientAuthFrame(text)
    if (sealed === undefined) return undefined
    const { aead, iv } = deriveTrafficKeys(crypto, secrets.clientHandshake)
    const plaintext = aead.open(iv, CLIENT_AUTH_DATA, sealed)
    return plaintext && parseAuthProof(plaintext)
  }

  return {
    receiveHello: async (text) => {
      const isExpected = state.type === 'awaiting_hello'
      end()
      const body = parseClientHelloFrame(text)
      if (!isExpected || body === undefined) return failed
      const parsed = parseClientHello(body)
      if (!parsed.ok) return parsed
      if (!parsed.hello.suites.includes(SUITE_X25519)) return failed
      const answered = answer(body, parsed.hello.keyShare)
      if (answered === undefined) return failed
      const { hello, transcript, secrets } = answered
      const answering: State = { type: 'answering', secrets }
      state = answering
      const auth = await prove(transcript, secrets)
      if (state !== answering) return failed
      state = { type: 'awaiting_auth', transcript, secrets }
      return { ok: true, reply: encodeServerHelloFrame(hello, auth) }
    },
    receiveAuth: (text) => {
      if (state.type !== 'awaiting_auth') {
        end()
        return { ok: false }
      }
      const { secrets, transcript } = state
      const proof = openProof(text, secrets)
      const claim = proof && parseClientAuth(proof.claim)
      if (proof === undefined || claim === undefined) {
        end()
        return { ok: false }
      }
      transcript.append(proof.claim)
      const signedHash = transcript.hash()
      transcript.append(proof.signature)
      const expectedFinished = finishedMac(crypto, secrets.clientHandshake, transcript.hash())
      transcript.append(proof.finished)
      state = { type: 'verifying', secrets }
      return {
        ok: true,
        claim,
        verify: (publicKey) => {
          if (state.type !== 'verifying') return undefined
          const key = publicKey ?? ABSENT_DEVICE_KEY
          const isSigned = verifyWithContext(crypto, key, 'client_auth', signedHash, proof.signature)
          const isFinished = crypto.isEqual(proof.finished, expectedFinished)
          const isClaimed = claim.mode !== 'register' || equalBytes(key, claim.publicKey)
          const isProved = publicKey !== undefined && isSigned && isFinished && isClaimed
          const sessionSecrets = deriveSessionSecrets(crypto, secrets.handshakeSecret, transcript.hash())
          end()
          return isProved ? sessionSecrets : undefined
        },
      }
    },
    close: end,
  }
}
