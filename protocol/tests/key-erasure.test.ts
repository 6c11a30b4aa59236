// What keyed a handshake or a session is overwritten as soon as it is not needed any more: seen at the crypto port, through
// which every secret goes.

import { describe, expect, test } from 'vitest'
import { encodeUtf8, isAllZero, toHex } from '../src/bytes.ts'
import type { Crypto } from '../src/crypto.ts'
import { createServerHandshake } from '../src/handshake/server-handshake.ts'
import { hkdfExpand, hkdfExtract, kdf } from '../src/kdf.ts'
import { nodeCrypto } from '../src/node-crypto.ts'
import { createSessionChannel, type SessionChannel } from '../src/session/channel.ts'
import {
  answerHello,
  createHandshakePair,
  createSecretsPair,
  finishHandshake,
  TEST_NEXT_FINGERPRINT,
  TEST_POLICY,
} from './support/session-pair.ts'

const zeros = new Uint8Array(32)
const earlySecret = hkdfExtract(nodeCrypto, zeros, zeros)
/** Made of no secret. */
const PUBLIC_KEYS: ReadonlySet<string> = new Set(
  [earlySecret, kdf(nodeCrypto, earlySecret, 'derived', nodeCrypto.sha256(new Uint8Array(0)))].map(toHex),
)

/** The port, and of every key and every shared secret that went through it what is still there. */
function createRecorder(): { readonly crypto: Crypto; readonly made: Uint8Array[]; left(): string[] } {
  const keys: Uint8Array[] = []
  const made: Uint8Array[] = []
  return {
    crypto: {
      ...nodeCrypto,
      hmacSha256: (key, data) => {
        const mac = nodeCrypto.hmacSha256(key, data)
        keys.push(key)
        made.push(mac, data)
        return mac
      },
      createAead: (key) => {
        keys.push(key)
        return nodeCrypto.createAead(key)
      },
      createKeyAgreement: (privateKey) => {
        const agreement = nodeCrypto.createKeyAgreement(privateKey)
        return {
          ...agreement,
          agree: (peerPublicKey) => {
            const secret = agreement.agree(peerPublicKey)
            if (secret !== undefined) keys.push(secret)
            return secret
          },
        }
      },
    },
    made,
    left: () => {
      const hexKeys = keys.filter((key) => !isAllZero(key)).map(toHex)
      return [...new Set(hexKeys.filter((key) => !PUBLIC_KEYS.has(key)))]
    },
  }
}

describe('a handshake', () => {
  test('SES-1: leaves both sides the secrets of the session and no other', async () => {
    const recorder = createRecorder()
    const { client, server } = await createSecretsPair({ crypto: recorder.crypto })
    expect(server).toEqual(client)
    expect(recorder.left()).toEqual([toHex(client.masterSecret)])
  })

  test('SES-1: leaves a client that refuses the server nothing', async () => {
    const recorder = createRecorder()
    const { crypto } = recorder
    const pinnedFingerprint = crypto.randomBytes(32)
    const pair = createHandshakePair({ crypto, pinnedFingerprint })
    expect(await pair.client.finish(await answerHello(pair))).toMatchObject({ ok: false })
    pair.server.close()
    expect(recorder.left()).toEqual([])
  })

  const endings: Record<string, (pair: ReturnType<typeof createHandshakePair>, authText: string) => unknown> = {
    'is closed before the proof': ({ server }) => server.close(),
    'is closed before the device is looked up': ({ server }, authText) => {
      server.receiveAuth(authText)
      server.close()
    },
    'gets a proof that it cannot read': ({ server }) => server.receiveAuth('{}'),
    'gets a second hello': ({ server, client }) => server.receiveHello(client.hello),
    'gets a second proof': ({ server }, authText) => {
      server.receiveAuth(authText)
      server.receiveAuth(authText)
    },
  }
  for (const [name, finish] of Object.entries(endings)) {
    test(`SES-1: leaves a server nothing that ${name}`, async () => {
      const recorder = createRecorder()
      const honest = createHandshakePair({ crypto: nodeCrypto })
      const server = createServerHandshake({
        crypto: recorder.crypto,
        signer: honest.serverSigner,
        nextFingerprint: TEST_NEXT_FINGERPRINT,
        policy: () => TEST_POLICY,
      })
      const pair = { ...honest, server }
      const { authText } = await finishHandshake(pair)
      expect(recorder.left()).not.toEqual([])
      await finish(pair, authText)
      expect(recorder.left()).toEqual([])
    })
  }

  test('SES-1: leaves a server nothing that is closed while it signs', async () => {
    const recorder = createRecorder()
    const pair = createHandshakePair({ crypto: recorder.crypto })
    const answering = pair.server.receiveHello(pair.client.hello)
    pair.server.close()
    expect(await answering).toEqual({ ok: false, code: 'handshake_failed' })
    expect(recorder.left()).toEqual([])
  })
})

describe('a session', () => {
  const openChannels = async () => {
    const secrets = await createSecretsPair({ crypto: nodeCrypto })
    const recorder = createRecorder()
    const { crypto } = recorder
    const client = createSessionChannel({ crypto, role: 'client', secrets: secrets.client })
    const server = createSessionChannel({ crypto, role: 'server', secrets: secrets.server })
    return { recorder, client, server }
  }
  const answerOf = (channel: SessionChannel, frame: Uint8Array): Uint8Array => {
    const received = channel.receive(frame)
    return (received.type === 'rekey' && received.replies[0]) || new Uint8Array(0)
  }
  /** Whatever a derivation made and is still there. */
  const madeAndLeft = ({ made }: ReturnType<typeof createRecorder>): number =>
    made.filter((bytes) => bytes.length === 32 && !isAllZero(bytes)).length

  test('SES-2: keeps of each rotation only what the next one starts from, and at its end nothing', async () => {
    const { recorder, client, server } = await openChannels()
    expect(recorder.left()).toEqual([])
    const masterSecrets = new Set<string>()
    for (let rotation = 0; rotation < 3; rotation++) {
      answerOf(server, answerOf(client, answerOf(server, client.startRekey())))
      expect(server.phase()).toBe(rotation + 1)
      expect(recorder.left()).toHaveLength(1)
      masterSecrets.add(recorder.left()[0]!)
    }
    expect(masterSecrets.size).toBe(3)
    client.close()
    server.close()
    expect(recorder.left()).toEqual([])
  })

  test('SES-2: that ends within a rotation leaves nothing of it', async () => {
    const { recorder, client, server } = await openChannels()
    answerOf(server, client.startRekey())
    expect(madeAndLeft(recorder)).toBeGreaterThan(0)
    server.close()
    client.close()
    expect(madeAndLeft(recorder)).toBe(0)
  })
})

test('CRY-3: a key of several blocks leaves no block of it but with the caller', () => {
  const recorder = createRecorder()
  const out = hkdfExpand(recorder.crypto, nodeCrypto.randomBytes(32), encodeUtf8('info'), 80)
  for (const at of [0, 32, 64]) {
    const block = toHex(out.subarray(at, at + 16))
    expect(recorder.made.filter((bytes) => toHex(bytes).includes(block))).toEqual([])
  }
})
