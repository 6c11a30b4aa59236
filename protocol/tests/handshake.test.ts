// The handshake between the product's two sides: what each learns, and that any change of any byte ends it.

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { fromBase64Url, fromHex, toBase64Url } from '../src/bytes.ts'
import { parseAuthProof, parseClientAuth, parseServerAuth } from '../src/handshake/auth.ts'
import { parseClientHello, parseServerHello } from '../src/handshake/hello.ts'
import {
  encodeSessionEstablishedFrame,
  parseClientAuthFrame,
  parseClientHelloFrame,
  parseServerHelloFrame,
  parseSessionEstablishedFrame,
} from '../src/handshake/text-frames.ts'
import { toUserId } from '../src/ids.ts'
import { nodeCrypto } from '../src/node-crypto.ts'
import { type Answer, answerByHand } from './support/hand-server.ts'
import {
  answerHello,
  createHandshakePair,
  createSecretsPair,
  finishHandshake,
  TEST_NEXT_FINGERPRINT,
  TEST_POLICY,
} from './support/session-pair.ts'

const crypto = nodeCrypto
const clientSigner = crypto.createSigner(crypto.randomBytes(32))
const serverSigner = crypto.createSigner(crypto.randomBytes(32))
const createPair = () => createHandshakePair({ crypto, clientSigner, serverSigner })
const zeros = (length: number) => new Uint8Array(length)

/** The same JSON frame with one byte of one of its fields changed. */
function flipFieldByte(text: string, field: string, index: number, mask: number): string {
  const frame = JSON.parse(text) as Record<string, string>
  const bytes = fromBase64Url(frame[field]!)!
  bytes[index] = bytes[index]! ^ mask
  return JSON.stringify({ ...frame, [field]: toBase64Url(bytes) })
}

function fieldLength(text: string, field: string): number {
  return fromBase64Url((JSON.parse(text) as Record<string, string>)[field]!)!.length
}

/** Every byte of a field and every character of the text, one change each. */
function* changedFrames(text: string, fields: readonly string[]): Generator<string> {
  for (const field of fields) {
    for (let i = 0; i < fieldLength(text, field); i++) yield flipFieldByte(text, field, i, i % 2 === 0 ? 0x01 : 0x80)
  }
  for (let i = 0; i < text.length; i++) {
    yield text.slice(0, i) + String.fromCharCode(text.charCodeAt(i) ^ 1) + text.slice(i + 1)
  }
}

describe('an honest handshake', () => {
  test('SES-1: both sides hold the same secrets, and each knows the other', async () => {
    const pair = createPair()
    const finished = await finishHandshake(pair)
    expect(finished.server).toEqual({
      publicKey: serverSigner.publicKey,
      nextFingerprint: TEST_NEXT_FINGERPRINT,
      policy: TEST_POLICY,
    })
    const auth = pair.server.receiveAuth(finished.authText)
    if (!auth.ok) throw new Error('the server refused')
    expect(auth.claim).toEqual({ ...pair.identity, publicKey: zeros(32) })
    expect(auth.verify(clientSigner.publicKey)).toEqual(finished.secrets)
    expect(new Set(Object.values(finished.secrets).map(toBase64Url)).size).toBe(5)
  })

  test('SES-1: the claim says of each mode only what the mode needs', async () => {
    for (const mode of ['device', 'register', 'recovery'] as const) {
      const pair = createHandshakePair({ crypto, clientSigner, serverSigner, identity: { mode, canRekey: false } })
      const auth = pair.server.receiveAuth((await finishHandshake(pair)).authText)
      if (!auth.ok) throw new Error('the server refused')
      expect(auth.claim).toEqual({
        ...pair.identity,
        userId: mode === 'device' ? pair.identity.userId : zeros(32),
        publicKey: mode === 'register' ? clientSigner.publicKey : zeros(32),
      })
      expect(auth.verify(clientSigner.publicKey)).toBeDefined()
    }
  })

  test('SES-1: two handshakes of the same two share no secret', async () => {
    const first = await createSecretsPair({ crypto, clientSigner, serverSigner })
    const second = await createSecretsPair({ crypto, clientSigner, serverSigner })
    for (const name of ['masterSecret', 'clientTraffic', 'serverTraffic', 'sessionId'] as const) {
      expect(first.client[name]).not.toEqual(second.client[name])
    }
  })

  test('SES-1: the first frame travels as text', () => {
    const frame = crypto.randomBytes(300)
    expect(parseSessionEstablishedFrame(encodeSessionEstablishedFrame(frame))).toEqual(frame)
  })
})

describe('a changed message', () => {
  test('SES-1: any byte of client_hello: the client refuses the answer, if there is one', async () => {
    for (const text of changedFrames(createPair().client.hello, ['body'])) {
      const { client, server } = createPair()
      const answer = await server.receiveHello(text)
      if (!answer.ok) expect(['handshake_failed', 'version_unsupported']).toContain(answer.code)
      else expect(await client.finish(answer.reply)).toEqual({ ok: false, reason: 'handshake_failed' })
    }
  })

  test('SES-1: any byte of server_hello: the client refuses', async () => {
    const model = await answerHello(createPair())
    const count = [...changedFrames(model, ['body', 'auth'])].length
    for (let i = 0; i < count; i++) {
      const pair = createPair()
      const changed = [...changedFrames(await answerHello(pair), ['body', 'auth'])][i]!
      expect(await pair.client.finish(changed)).toEqual({ ok: false, reason: 'handshake_failed' })
    }
  })

  test('SES-1: any byte of client_auth: the server refuses', async () => {
    const model = (await finishHandshake(createPair())).authText
    const count = [...changedFrames(model, ['auth'])].length
    for (let i = 0; i < count; i++) {
      const pair = createPair()
      const changed = [...changedFrames((await finishHandshake(pair)).authText, ['auth'])][i]!
      expect(pair.server.receiveAuth(changed)).toEqual({ ok: false })
    }
  })

  test('SES-1: a message of another handshake is refused', async () => {
    const first = createPair()
    const second = createPair()
    const replies = [await answerHello(first), await answerHello(second)] as const
    expect(await first.client.finish(replies[1])).toEqual({ ok: false, reason: 'handshake_failed' })
    const third = createPair()
    await answerHello(third)
    const finished = await second.client.finish(replies[1])
    expect(third.server.receiveAuth(finished.ok ? finished.authText : '')).toEqual({ ok: false })
  })
})

describe('a wrong peer', () => {
  test('SES-1: a server with another key than the pinned one is told apart', async () => {
    const pair = createHandshakePair({ crypto, clientSigner, serverSigner, pinnedFingerprint: crypto.randomBytes(32) })
    expect(await pair.client.finish(await answerHello(pair))).toEqual({
      ok: false,
      reason: 'wrong_server_key',
      publicKey: serverSigner.publicKey,
    })
  })

  test('SES-1: a server that names another key than the pinned one without proving it fails', async () => {
    const named = { publicKey: serverSigner.publicKey, sign: crypto.createSigner(crypto.randomBytes(32)).sign }
    const pinnedFingerprint = crypto.randomBytes(32)
    const pair = createHandshakePair({ crypto, clientSigner, serverSigner: named, pinnedFingerprint })
    expect(await pair.client.finish(await answerHello(pair))).toEqual({ ok: false, reason: 'handshake_failed' })
  })

  test('KEY-3: a server with the pinned key and another next key than the pinned one is told apart', async () => {
    const pinnedNextFingerprint = crypto.randomBytes(32)
    const pair = createHandshakePair({ crypto, clientSigner, serverSigner, pinnedNextFingerprint })
    expect(await pair.client.finish(await answerHello(pair))).toEqual({ ok: false, reason: 'next_key_changed' })
  })

  test('KEY-1: a client learns the next key from the handshake, and keeps to it', async () => {
    const pair = createHandshakePair({ crypto, clientSigner, serverSigner })
    const first = await pair.client.finish(await answerHello(pair))
    const pinnedNextFingerprint = first.ok ? first.server.nextFingerprint : crypto.randomBytes(32)
    const again = createHandshakePair({ crypto, clientSigner, serverSigner, pinnedNextFingerprint })
    expect(await again.client.finish(await answerHello(again))).toMatchObject({ ok: true })
  })

  test('SES-1: a server that names the pinned key but cannot sign with it fails', async () => {
    const impostor = crypto.createSigner(crypto.randomBytes(32))
    const named = { publicKey: serverSigner.publicKey, sign: impostor.sign }
    const pair = createHandshakePair({ crypto, clientSigner, serverSigner: named })
    expect(await pair.client.finish(await answerHello(pair))).toEqual({ ok: false, reason: 'handshake_failed' })
  })

  test('SES-1: a client that cannot sign with its key, or has none in the log, gets no secrets', async () => {
    const keys = [crypto.createSigner(crypto.randomBytes(32)).publicKey, undefined, zeros(32), zeros(5)]
    for (const key of keys) {
      const pair = createPair()
      const auth = pair.server.receiveAuth((await finishHandshake(pair)).authText)
      expect(auth.ok && auth.verify(key)).toBeUndefined()
    }
  })

  test('SES-1: a device that is not there is not proved by the key its signature is checked against', async () => {
    // RFC 8032 section 7.1, test 1: everybody knows this private key.
    const seed = '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60'
    const pair = createHandshakePair({ crypto, clientSigner: crypto.createSigner(fromHex(seed)!), serverSigner })
    const auth = pair.server.receiveAuth((await finishHandshake(pair)).authText)
    expect(auth.ok && auth.verify(undefined)).toBeUndefined()
  })

  test('SES-1: a server that seals rightly is held to suite, form, key share and Finished MAC', async () => {
    const offer = async (changes?: Partial<Answer>) => {
      const { client } = createPair()
      const result = await client.finish(await answerByHand(client.hello, serverSigner, changes))
      return result.ok ? 'accepted' : result.reason
    }
    expect(await offer()).toBe('accepted')
    expect(await offer({ version: 2 })).toBe('handshake_failed')
    expect(await offer({ suite: 2, kemCiphertext: zeros(1088) })).toBe('handshake_failed')
    expect(await offer({ suite: 3 })).toBe('handshake_failed')
    expect(await offer({ kemCiphertext: zeros(1) })).toBe('handshake_failed')
    expect(await offer({ keyShare: zeros(32) })).toBe('handshake_failed')
    expect(await offer({ finished: (mac) => mac.map((byte, i) => (i === 31 ? byte ^ 1 : byte)) })).toBe(
      'handshake_failed',
    )
  })

  test('SES-1: a client that registers is held to the key it named', async () => {
    for (const [publicKey, isHeld] of [
      [clientSigner.publicKey, true],
      [serverSigner.publicKey, false],
    ] as const) {
      const identity = { mode: 'register', publicKey } as const
      const pair = createHandshakePair({ crypto, clientSigner, serverSigner, identity })
      const auth = pair.server.receiveAuth((await finishHandshake(pair)).authText)
      expect((auth.ok && auth.verify(clientSigner.publicKey)) !== undefined).toBe(isHeld)
    }
  })
})

describe('the order of messages', () => {
  test('SES-1: every step is taken once and in its turn', async () => {
    const early = createPair()
    expect(early.server.receiveAuth('')).toEqual({ ok: false })
    expect(await early.server.receiveHello(early.client.hello)).toEqual({ ok: false, code: 'handshake_failed' })

    const twice = createPair()
    await answerHello(twice)
    expect(await twice.server.receiveHello(twice.client.hello)).toEqual({ ok: false, code: 'handshake_failed' })

    const pair = createPair()
    const reply = await answerHello(pair)
    const finished = await pair.client.finish(reply)
    expect(await pair.client.finish(reply)).toEqual({ ok: false, reason: 'handshake_failed' })
    const authText = finished.ok ? finished.authText : ''
    const auth = pair.server.receiveAuth(authText)
    expect(auth.ok && auth.verify(clientSigner.publicKey)).toBeDefined()
    expect(auth.ok && auth.verify(clientSigner.publicKey)).toBeUndefined()
    expect(pair.server.receiveAuth(authText)).toEqual({ ok: false })
  })

  test('SES-1: what does not fit ends the handshake: nothing right that follows is taken', async () => {
    const malformed = createPair()
    await malformed.server.receiveHello('{}')
    expect(await malformed.server.receiveHello(malformed.client.hello)).toMatchObject({ ok: false })

    const twice = createPair()
    const { authText } = await finishHandshake(twice)
    await twice.server.receiveHello(twice.client.hello)
    expect(twice.server.receiveAuth(authText)).toEqual({ ok: false })

    const unreadable = createPair()
    const finished = await finishHandshake(unreadable)
    unreadable.server.receiveAuth('{}')
    expect(unreadable.server.receiveAuth(finished.authText)).toEqual({ ok: false })
  })

  test('SES-1: a proof that comes before the hello is answered, or after the end, is refused', async () => {
    const pair = createPair()
    const answering = pair.server.receiveHello(pair.client.hello)
    expect(pair.server.receiveAuth('{}')).toEqual({ ok: false })
    expect(await answering).toEqual({ ok: false, code: 'handshake_failed' })

    const closed = createPair()
    const { authText } = await finishHandshake(closed)
    closed.server.close()
    expect(closed.server.receiveAuth(authText)).toEqual({ ok: false })
  })
})

describe('malformed text', () => {
  test('SES-1: frames with other keys, other types or endless text are refused', async () => {
    const { hello } = createPair().client
    const { body } = JSON.parse(hello) as { body: string }
    const malformed = [
      '',
      'null',
      '[]',
      '"client_hello"',
      '{"type":"client_hello"}',
      JSON.stringify({ type: 'client_hello', body, extra: 1 }),
      JSON.stringify({ type: 'client_auth', body }),
      JSON.stringify({ type: 'client_hello', body: 7 }),
      JSON.stringify({ type: 'client_hello', body: `${body}=` }),
      JSON.stringify({ type: 'client_hello', body: `${body}AAAA` }),
      JSON.stringify({ type: 'client_hello', body: '' }),
      JSON.stringify({ type: 'client_hello', ['__proto__']: body }),
      hello + ' '.repeat(5000),
    ]
    for (const text of malformed) {
      expect(await createPair().server.receiveHello(text)).toEqual({ ok: false, code: 'handshake_failed' })
      expect(await createPair().client.finish(text)).toEqual({ ok: false, reason: 'handshake_failed' })
    }
  })

  test('SES-1: no parser throws on any text or bytes', () => {
    const textParsers = [
      parseClientHelloFrame,
      parseServerHelloFrame,
      parseClientAuthFrame,
      parseSessionEstablishedFrame,
    ]
    const byteParsers = [parseClientHello, parseServerHello, parseServerAuth, parseClientAuth, parseAuthProof]
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), fc.uint8Array({ maxLength: 400 }), (text, bytes) => {
        for (const parse of textParsers) expect(parse(text)).toBeUndefined()
        for (const parse of byteParsers) parse(bytes)
      }),
    )
  })

  test('SES-1: a claim that does not fit is a bug of the caller', () => {
    expect(() => createHandshakePair({ crypto, identity: { clientInfo: 'x'.repeat(65) } })).toThrow(RangeError)
    expect(toUserId(zeros(31))).toBeUndefined()
  })
})
