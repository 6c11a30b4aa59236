// A pin that follows the server's signed changes of key, and every link that it must not follow.

import { expect, test } from 'vitest'
import type { Signer } from '../src/crypto.ts'
import {
  encodeServerKeyChange,
  followServerKeys,
  openServerKeyChange,
  type ServerKeyPin,
  serverFingerprint,
  signServerKeyChange,
} from '../src/handshake/server-key.ts'
import { nodeCrypto as crypto } from '../src/node-crypto.ts'
import { SMALL_ORDER_ENCODINGS } from './support/crypto-suite.ts'

const signers = Array.from({ length: 6 }, () => crypto.createSigner(crypto.randomBytes(32)))
const signerOf = (index: number): Signer => signers[index]!
const fpOf = (index: number): Uint8Array => serverFingerprint(crypto, signerOf(index).publicKey)
const pinOf = (index: number): ServerKeyPin => ({ fingerprint: fpOf(index), nextFingerprint: fpOf(index + 1) })

/** The change from one key to another that names a third. */
const change = async (from: number, to = from + 1, next = to + 1): Promise<Uint8Array> =>
  encodeServerKeyChange(await signServerKeyChange(signerOf(from), signerOf(to), fpOf(next)))

const follow = (pin: ServerKeyPin, changes: readonly Uint8Array[]) => followServerKeys(crypto, pin, changes)

test('KEY-2: a client follows the changes from its pin to the newest key, and knows what it left', async () => {
  const chain = await Promise.all([change(0), change(1), change(2)])
  expect(follow(pinOf(0), chain)).toEqual({ ok: true, pin: { ...pinOf(3), retired: [fpOf(0), fpOf(1), fpOf(2)] } })
  expect(follow(pinOf(2), chain.slice(2))).toEqual({ ok: true, pin: { ...pinOf(3), retired: [fpOf(2)] } })
  expect(follow(pinOf(0), [])).toEqual({ ok: true, pin: { ...pinOf(0), retired: [] } })
})

test('KEY-2: page by page leads where the whole chain leads', async () => {
  const chain = await Promise.all([change(0), change(1), change(2)])
  let pin = pinOf(0)
  for (const each of chain) {
    const followed = follow(pin, [each])
    if (!followed.ok) throw new Error(followed.fault)
    pin = followed.pin
  }
  expect({ ok: true, pin }).toEqual(follow(pinOf(0), chain))
})

test('KEY-2: a change with any byte flipped, cut or added is none', async () => {
  const whole = await change(0)
  expect(openServerKeyChange(crypto, whole)).toBeDefined()
  for (let at = 0; at < whole.length; at++) {
    const altered = whole.slice()
    altered[at]! ^= 1
    expect(follow(pinOf(0), [altered]), `byte ${at}`).toMatchObject({ ok: false })
    expect(openServerKeyChange(crypto, altered), `byte ${at}`).toBeUndefined()
  }
  expect(openServerKeyChange(crypto, whole.subarray(1))).toBeUndefined()
  expect(openServerKeyChange(crypto, whole.subarray(0, -1))).toBeUndefined()
  expect(openServerKeyChange(crypto, Buffer.concat([whole, Buffer.of(0)]))).toBeUndefined()
})

test('KEY-2: the old key and the new one must both sign, each in its own place', async () => {
  const signed = await signServerKeyChange(signerOf(0), signerOf(1), fpOf(2))
  const { oldSignature, newSignature } = signed
  const byOne = await signServerKeyChange(signerOf(0), { ...signerOf(0), publicKey: signerOf(1).publicKey }, fpOf(2))
  for (const forged of [
    { ...signed, oldSignature: newSignature },
    { ...signed, newSignature: oldSignature },
    { ...signed, oldSignature: newSignature, newSignature: oldSignature },
    { ...signed, newSignature: byOne.newSignature },
    { ...signed, nextFingerprint: fpOf(3) },
  ]) {
    expect(follow(pinOf(0), [encodeServerKeyChange(forged)])).toEqual({ ok: false, fault: 'invalid' })
  }
})

test('KEY-2: a change that skips a link, comes twice, comes out of order or begins elsewhere is not followed', async () => {
  const [first, second, third] = await Promise.all([change(0), change(1), change(2)])
  const invalid = { ok: false, fault: 'invalid' }
  expect(follow(pinOf(0), [first, third])).toEqual(invalid)
  expect(follow(pinOf(0), [third])).toEqual(invalid)
  expect(follow(pinOf(0), [first, first])).toEqual(invalid)
  expect(follow(pinOf(0), [first, second, first])).toEqual(invalid)
  expect(follow(pinOf(0), [third, first])).toEqual(invalid)
})

test('KEY-3: who has only the old key cannot lead a client anywhere', async () => {
  expect(follow(pinOf(0), [await change(0, 5, 4)])).toEqual({ ok: false, fault: 'wrong_next' })
  const moved = follow(pinOf(0), [await change(0)])
  expect(moved.ok && follow(moved.pin, [await change(0, 5, 4)])).toEqual({ ok: false, fault: 'wrong_next' })
})

test('KEY-3: two valid changes of one key are told, also when one was followed before', async () => {
  const [first, other] = await Promise.all([change(0), change(0, 1, 5)])
  expect(follow(pinOf(0), [first, other])).toEqual({ ok: false, fault: 'forked' })
  const moved = follow(pinOf(0), [first, await change(1)])
  expect(moved.ok && follow(moved.pin, [other])).toEqual({ ok: false, fault: 'forked' })
})

test('KEY-2: no chain leads back to a key that was left, or to the same key again', async () => {
  const [first, back, same] = await Promise.all([change(0), change(1, 2, 0), change(1, 2, 2)])
  expect(follow(pinOf(0), [first, back])).toEqual({ ok: false, fault: 'invalid' })
  expect(follow(pinOf(0), [first, same])).toEqual({ ok: false, fault: 'invalid' })
})

test('KEY-2: a client that does not know the next key follows no change', async () => {
  expect(follow({ fingerprint: fpOf(0) }, [await change(0)])).toEqual({ ok: false, fault: 'invalid' })
})

test('H-2: no chain leads to a key of small order', async () => {
  for (const encoding of SMALL_ORDER_ENCODINGS) {
    const publicKey = new Uint8Array(Buffer.from(encoding, 'hex'))
    const weak = await signServerKeyChange(signerOf(0), { ...signerOf(1), publicKey }, fpOf(2))
    expect(openServerKeyChange(crypto, encodeServerKeyChange(weak))).toBeUndefined()
  }
})
