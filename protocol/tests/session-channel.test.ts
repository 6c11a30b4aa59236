// The frames of a session: their bytes, and that none but the next one opens.

import { createDecipheriv, createHmac } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isAllZero } from '../src/bytes.ts'
import { kdf } from '../src/kdf.ts'
import { nodeCrypto } from '../src/node-crypto.ts'
import { createSessionChannel } from '../src/session/channel.ts'
import { FRAME_OVERHEAD_BYTES } from '../src/session/frame.ts'
import { createChannelPair, createSecretsPair } from './support/session-pair.ts'

const crypto = nodeCrypto
const payload = Uint8Array.from({ length: 256 }, (_, i) => i)
const createPair = () => createChannelPair(crypto)
const failed = { type: 'failed' }

describe('frames', () => {
  test('SES-1: payloads of any size pass both ways in order', async () => {
    const { client, server } = await createPair()
    for (const length of [0, 1, 255, 256, 4095, 4096, 100_000]) {
      const bytes = new Uint8Array(length).fill(0x5a)
      const frame = client.seal(bytes)
      expect(frame.length).toBe(bytes.length + FRAME_OVERHEAD_BYTES)
      expect(server.receive(frame)).toEqual({ type: 'application', payload: bytes })
      expect(client.receive(server.seal(bytes))).toEqual({ type: 'application', payload: bytes })
    }
  })

  test('SES-1: a frame is header, then AES-256-GCM under the nonce of its number', async () => {
    const secrets = await createSecretsPair({ crypto })
    const traffic = secrets.client.clientTraffic.slice()
    const expandLabel = (name: string, length: number): Buffer => {
      const info = [Buffer.of(0, length, 7 + name.length), Buffer.from(`valise ${name}`), Buffer.of(0, 1)]
      return createHmac('sha256', traffic).update(Buffer.concat(info)).digest().subarray(0, length)
    }
    const client = createSessionChannel({ crypto, role: 'client', secrets: secrets.client })
    for (let seq = 0; seq < 300; seq++) {
      const frame = client.seal(payload)
      const nonce = expandLabel('iv', 12)
      nonce.writeUInt32BE((nonce.readUInt32BE(8) ^ seq) >>> 0, 8)
      const decipher = createDecipheriv('aes-256-gcm', expandLabel('key', 32), nonce, { authTagLength: 16 })
      decipher.setAAD(Buffer.of(1, 0)).setAuthTag(frame.subarray(-16))
      const plaintext = Buffer.concat([decipher.update(frame.subarray(2, -16)), decipher.final()])
      expect([...frame.subarray(0, 2), ...plaintext]).toEqual([1, 0, 0, ...payload])
    }
  })

  test('SES-1: an opened payload stays as it is when the frame is overwritten', async () => {
    const { client, server } = await createPair()
    const frame = client.seal(payload)
    const received = server.receive(frame)
    frame.fill(0)
    client.seal(new Uint8Array(256))
    expect(received).toEqual({ type: 'application', payload })
  })

  test('SES-1: frames sealed in a row do not share bytes', async () => {
    const { client, server } = await createPair()
    const frames = Array.from({ length: 100 }, (_, i) => client.seal(Uint8Array.of(i)))
    for (const [i, frame] of frames.entries()) {
      expect(server.receive(frame)).toEqual({ type: 'application', payload: Uint8Array.of(i) })
    }
  })

  test('SES-1: close_notify ends a direction', async () => {
    const { client, server } = await createPair()
    expect(server.receive(client.sealCloseNotify())).toEqual({ type: 'close_notify' })
    expect(server.receive(client.seal(payload))).toEqual(failed)
  })

  test('SES-1: secrets make one channel, and are overwritten', async () => {
    const secrets = await createSecretsPair({ crypto })
    createSessionChannel({ crypto, role: 'server', secrets: secrets.server })
    for (const name of ['masterSecret', 'clientTraffic', 'serverTraffic'] as const) {
      expect(isAllZero(secrets.server[name])).toBe(true)
    }
    expect(() => createSessionChannel({ crypto, role: 'server', secrets: secrets.server })).toThrow()
  })
})

describe('a frame that is not the next one', () => {
  const changes: Record<string, (frames: Uint8Array[]) => Uint8Array> = {
    'is repeated': (frames) => frames[0]!,
    'skips one': (frames) => frames[2]!,
    'is empty': () => new Uint8Array(0),
    'is a header only': (frames) => frames[1]!.slice(0, 2),
    'lost its last byte': (frames) => frames[1]!.slice(0, -1),
    'has 4 bytes of its tag': (frames) => frames[1]!.slice(0, -12),
    'has no tag': (frames) => frames[1]!.slice(0, -16),
    'has one byte more': (frames) => Uint8Array.of(...frames[1]!, 0),
  }
  for (const [name, change] of Object.entries(changes)) {
    test(`SES-1: fails for good when it ${name}`, async () => {
      const { client, server } = await createPair()
      const frames = [client.seal(payload), client.seal(payload), client.seal(payload)]
      expect(server.receive(frames[0]!).type).toBe('application')
      expect(server.receive(change(frames))).toEqual(failed)
      expect(server.receive(frames[1]!)).toEqual(failed)
    })
  }

  test('SES-1: fails when any byte of it is changed: version, phase, ciphertext, tag', async () => {
    const { length } = (await createPair()).client.seal(payload)
    for (let i = 0; i < length; i++) {
      const { client, server } = await createPair()
      const frame = client.seal(payload)
      frame[i] = frame[i]! ^ (1 << (i % 8))
      expect(server.receive(frame)).toEqual(failed)
    }
  })

  test('SES-1: fails when it comes back to its sender, or from another session', async () => {
    const { client, server } = await createPair()
    expect(client.receive(client.seal(payload))).toEqual(failed)
    expect(server.receive((await createPair()).client.seal(payload))).toEqual(failed)
  })

  test('SES-1: fails when its kind is unknown, or when it holds none', async () => {
    for (const plaintext of [[6, 1], [255], []]) {
      const secrets = await createSecretsPair({ crypto })
      const traffic = secrets.client.clientTraffic
      const iv = kdf(crypto, traffic, 'iv', new Uint8Array(0), 12)
      const aead = crypto.createAead(kdf(crypto, traffic, 'key', new Uint8Array(0)))
      const sealed = aead.seal(iv, Uint8Array.of(1, 0), Uint8Array.from(plaintext))
      const server = createSessionChannel({ crypto, role: 'server', secrets: secrets.server })
      expect(server.receive(Uint8Array.of(1, 0, ...sealed))).toEqual(failed)
    }
  })

  test('SES-1: no bytes make it throw', async () => {
    const { client, server } = await createPair()
    const secrets = await Promise.all(Array.from({ length: 60 }, () => createSecretsPair({ crypto })))
    const channels = secrets.map((pair) => createSessionChannel({ crypto, role: 'server', secrets: pair.server }))
    const anyFrame = fc.uint8Array({ maxLength: 120 }).map((bytes) => Uint8Array.of(1, 0, ...bytes))
    fc.assert(
      fc.property(fc.oneof(anyFrame, fc.uint8Array({ maxLength: 120 })), (frame) => {
        expect((channels.pop() ?? server).receive(frame)).toEqual(failed)
      }),
      { numRuns: 60 },
    )
    expect(client.receive(server.seal(payload)).type).toBe('application')
  })
})
