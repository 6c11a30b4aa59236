// A server that holds its keys and seals its proof rightly, and says in it what an honest server never would.

import { createByteWriter } from '../../src/bytes.ts'
import { encodeAuthProof, encodeServerAuth } from '../../src/handshake/auth.ts'
import { deriveHandshakeSecrets, deriveTrafficKeys, finishedMac } from '../../src/handshake/key-schedule.ts'
import { encodeServerHelloFrame, parseClientHelloFrame, SERVER_HELLO_DATA } from '../../src/handshake/text-frames.ts'
import { createTranscript } from '../../src/handshake/transcript.ts'
import { signWithContext } from '../../src/kdf.ts'
import { nodeCrypto as crypto } from '../../src/node-crypto.ts'
import { TEST_NEXT_FINGERPRINT, TEST_POLICY } from './session-pair.ts'

export interface Answer {
  readonly version: number
  readonly suite: number
  readonly keyShare: Uint8Array
  readonly kemCiphertext: Uint8Array
  readonly finished: (mac: Uint8Array) => Uint8Array
}

/** Where the client's key share stands in a hello that offers one suite. */
const KEY_SHARE_AT = 36

/** The reply to a client's hello; `changes` are what is not as the document says. */
export async function answerByHand(
  hello: string,
  signer: { publicKey: Uint8Array; sign(message: Uint8Array): Uint8Array | Promise<Uint8Array> },
  changes: Partial<Answer> = {},
): Promise<string> {
  const clientHello = parseClientHelloFrame(hello)!
  const agreement = crypto.createKeyAgreement()
  const shared = agreement.agree(clientHello.subarray(KEY_SHARE_AT, KEY_SHARE_AT + 32))!
  const serverHello = createByteWriter()
    .u8(changes.version ?? 1)
    .u16(changes.suite ?? 1)
    .bytes(crypto.randomBytes(32))
    .bytes(changes.keyShare ?? agreement.publicKey)
    .prefixed(changes.kemCiphertext ?? new Uint8Array(0))
    .finish()
  const transcript = createTranscript(crypto)
  transcript.append(clientHello)
  transcript.append(serverHello)
  const { serverHandshake } = deriveHandshakeSecrets(crypto, shared, transcript.hash())
  const claim = encodeServerAuth({
    publicKey: signer.publicKey,
    nextFingerprint: TEST_NEXT_FINGERPRINT,
    policy: TEST_POLICY,
  })
  transcript.append(claim)
  const signature = await signWithContext(signer, 'server_hello', transcript.hash())
  transcript.append(signature)
  const mac = finishedMac(crypto, serverHandshake, transcript.hash())
  const finished = changes.finished?.(mac) ?? mac
  const { aead, iv } = deriveTrafficKeys(crypto, serverHandshake)
  const sealed = aead.seal(iv, SERVER_HELLO_DATA, encodeAuthProof({ claim, signature, finished }))
  return encodeServerHelloFrame(serverHello, sealed)
}
