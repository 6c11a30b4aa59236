// The rotation of a session's keys in band: who may say what when, what is lost (nothing), and which secrets follow.

import { describe, expect, test } from 'vitest'
import { concatBytes, encodeUtf8, prefixBytes } from '../src/bytes.ts'
import type { Crypto } from '../src/crypto.ts'
import type { SessionSecrets } from '../src/handshake/key-schedule.ts'
import { hkdfExtract, kdf } from '../src/kdf.ts'
import { nodeCrypto } from '../src/node-crypto.ts'
import { createSessionChannel, type SessionChannel } from '../src/session/channel.ts'
import { createDirection, type Direction } from '../src/session/direction.ts'
import { createChannelPair, createSecretsPair } from './support/session-pair.ts'

const crypto = nodeCrypto
const payload = encodeUtf8('payload')
const nothing = new Uint8Array(0)
const failed = { type: 'failed' }
const createPair = () => createChannelPair(crypto)

/** The frames that answer a rotation's message; throws when the frame is anything else. */
function repliesOf(channel: SessionChannel, frame: Uint8Array): Uint8Array[] {
  const received = channel.receive(frame)
  if (received.type !== 'rekey') throw new Error(`received ${received.type}`)
  return received.replies
}

function replyOf(channel: SessionChannel, frame: Uint8Array): Uint8Array {
  const [reply, ...others] = repliesOf(channel, frame)
  if (reply === undefined || others.length > 0) throw new Error('expected one reply')
  return reply
}

function rotate(client: SessionChannel, server: SessionChannel): void {
  expect(repliesOf(server, replyOf(client, replyOf(server, client.startRekey())))).toEqual([])
}

function expectTraffic(client: SessionChannel, server: SessionChannel): void {
  expect(server.receive(client.seal(payload))).toEqual({ type: 'application', payload })
  expect(client.receive(server.seal(payload))).toEqual({ type: 'application', payload })
}

/** A channel, and a peer that can seal any kind at any time. */
async function createForger(role: 'client' | 'server'): Promise<{ channel: SessionChannel; forger: Direction }> {
  const { client, server } = await createSecretsPair({ crypto })
  const secrets = role === 'client' ? client : server
  const forged = role === 'client' ? server.serverTraffic : client.clientTraffic
  return { channel: createSessionChannel({ crypto, role, secrets }), forger: createDirection(crypto, forged) }
}

describe('a rotation', () => {
  test('SES-2: both directions move to new keys, again and again, past the width of the phase byte', async () => {
    const { client, server } = await createPair()
    for (let phase = 1; phase <= 260; phase++) {
      rotate(client, server)
      expect([client.phase(), server.phase()]).toEqual([phase, phase])
      expectTraffic(client, server)
    }
    expect(client.seal(payload)[1]).toBe(260 % 256)
  })

  test('SES-2: no frame is lost: what is in flight arrives under the keys it was sealed with', async () => {
    const { client, server } = await createPair()
    const serverBefore = server.seal(payload)
    const init = client.startRekey()
    const clientBetween = client.seal(payload)
    expect([client.isRekeying(), client.phase()]).toEqual([true, 0])
    const response = replyOf(server, init)
    expect([server.isRekeying(), server.phase()]).toEqual([true, 1])
    const serverAfter = server.seal(payload)
    expect([response[1], serverAfter[1]]).toEqual([0, 1])
    expect(server.receive(clientBetween).type).toBe('application')
    expect(client.receive(serverBefore).type).toBe('application')
    const received = client.receive(response)
    expect(received).toMatchObject({ type: 'rekey', isComplete: true })
    expect([client.isRekeying(), client.phase()]).toEqual([false, 1])
    expect(client.receive(serverAfter).type).toBe('application')
    const clientAfter = client.seal(payload)
    const done = received.type === 'rekey' ? received.replies[0]! : nothing
    expect([done[1], clientAfter[1]]).toEqual([0, 1])
    expect(server.receive(done)).toEqual({ type: 'rekey', replies: [], isComplete: true })
    expect(server.isRekeying()).toBe(false)
    expect(server.receive(clientAfter).type).toBe('application')
    expectTraffic(client, server)
  })

  test('SES-2: the new secrets mix the old master secret, both messages and a new agreement', async () => {
    const keys = [crypto.randomBytes(32), crypto.randomBytes(32)] as const
    const fixed = (index: 0 | 1): Crypto => ({
      ...crypto,
      createKeyAgreement: () => crypto.createKeyAgreement(keys[index]),
    })
    const secrets = await createSecretsPair({ crypto })
    const old: SessionSecrets = structuredClone(secrets.client)
    const client = createSessionChannel({ crypto: fixed(0), role: 'client', secrets: secrets.client })
    const server = createSessionChannel({ crypto: fixed(1), role: 'server', secrets: secrets.server })
    const initFrame = client.startRekey()
    const responseFrame = replyOf(server, initFrame)
    const init = createDirection(crypto, old.clientTraffic).open(initFrame)!.payload
    const response = createDirection(crypto, old.serverTraffic).open(responseFrame)!.payload
    const shared = crypto.createKeyAgreement(keys[0]).agree(crypto.createKeyAgreement(keys[1]).publicKey)!
    const transcript = concatBytes(
      encodeUtf8('valise rekey\0'),
      old.transcriptHash,
      prefixBytes(init),
      prefixBytes(response),
    )
    const salt = kdf(crypto, old.masterSecret, 'rekey', crypto.sha256(nothing))
    const masterSecret = hkdfExtract(crypto, salt, shared)
    const traffic = kdf(crypto, masterSecret, 's ap traffic', crypto.sha256(transcript))
    const reader = createDirection(crypto, new Uint8Array(32))
    reader.advance(traffic)
    expect(reader.open(server.seal(payload))).toEqual({ kind: 'application', payload })
  })

  test('SES-2: a frame of the old phase fails after the change', async () => {
    const { client, server } = await createPair()
    const stale = client.seal(payload)
    server.receive(stale)
    rotate(client, server)
    expect(server.receive(stale)).toEqual(failed)
  })
})

describe('who may say what', () => {
  test('SES-2: the server asks, and only the client starts, one at a time', async () => {
    const { client, server } = await createPair()
    expect(client.receive(server.sealRekeyHint())).toEqual({ type: 'rekey_hint' })
    expect(() => client.sealRekeyHint()).toThrow()
    expect(() => server.startRekey()).toThrow()
    client.startRekey()
    expect(() => client.startRekey()).toThrow()
  })

  const unexpected = {
    server: ['rekey_resp', 'rekey_done', 'rekey_hint'],
    client: ['rekey_init', 'rekey_resp', 'rekey_done'],
  } as const
  const wellFormed = concatBytes(crypto.createKeyAgreement().publicKey, new Uint8Array(36))
  for (const role of ['server', 'client'] as const) {
    for (const kind of unexpected[role]) {
      test(`SES-2: a ${role} refuses ${kind} out of turn`, async () => {
        const { channel, forger } = await createForger(role)
        const message = kind === 'rekey_init' || kind === 'rekey_resp' ? wellFormed : nothing
        expect(channel.receive(forger.seal(kind, message))).toEqual(failed)
        expect(channel.receive(forger.seal('application', payload))).toEqual(failed)
      })
    }
  }

  test('SES-2: a second rekey_init before rekey_done is refused', async () => {
    const { channel, forger } = await createForger('server')
    repliesOf(channel, forger.seal('rekey_init', wellFormed))
    expect(channel.receive(forger.seal('rekey_init', wellFormed))).toEqual(failed)
  })

  test('SES-2: an abandoned channel receives nothing and starts nothing', async () => {
    const { client, server } = await createPair()
    const frame = server.seal(payload)
    client.close()
    expect(client.receive(frame)).toEqual(failed)
    expect(() => client.startRekey()).toThrow()
  })
})

describe('malformed messages of a rotation', () => {
  const keyShare = crypto.createKeyAgreement().publicKey
  const malformed: Record<string, Uint8Array> = {
    'is empty': nothing,
    'lacks a byte': concatBytes(keyShare, new Uint8Array(35)),
    'has a byte more': concatBytes(keyShare, new Uint8Array(37)),
    'has an ML-KEM key': concatBytes(keyShare, new Uint8Array(32), prefixBytes(Uint8Array.of(1))),
    'has a key share that gives an all-zero secret': new Uint8Array(68),
  }
  for (const [name, message] of Object.entries(malformed)) {
    test(`SES-2: rekey_init fails when it ${name}`, async () => {
      const { channel, forger } = await createForger('server')
      expect(channel.receive(forger.seal('rekey_init', message))).toEqual(failed)
    })

    test(`SES-2: rekey_resp fails when it ${name}`, async () => {
      const { channel, forger } = await createForger('client')
      channel.startRekey()
      expect(channel.receive(forger.seal('rekey_resp', message))).toEqual(failed)
      expect(channel.receive(forger.seal('application', payload))).toEqual(failed)
    })
  }

  test('SES-2: rekey_done, rekey_hint and close_notify carry nothing', async () => {
    const { channel, forger } = await createForger('server')
    repliesOf(channel, forger.seal('rekey_init', concatBytes(keyShare, new Uint8Array(36))))
    expect(channel.receive(forger.seal('rekey_done', payload))).toEqual(failed)
    const hinted = await createForger('client')
    expect(hinted.channel.receive(hinted.forger.seal('rekey_hint', payload))).toEqual(failed)
    const closed = await createForger('server')
    expect(closed.channel.receive(closed.forger.seal('close_notify', payload))).toEqual(failed)
  })
})
