// A pin that follows the server's signed changes of key.

import { expect, test } from 'vitest'
import {
  type ServerKeyChange,
  serverFingerprint,
  signServerKeyChange,
  verifyServerKeyChain,
} from '../src/handshake/server-key.ts'
import { nodeCrypto as crypto } from '../src/node-crypto.ts'

const signers = Array.from({ length: 4 }, () => crypto.createSigner(crypto.randomBytes(32)))
const keyOf = (index: number): Uint8Array => signers[index]!.publicKey
const pinOf = (index: number): Uint8Array => serverFingerprint(crypto, keyOf(index))

async function createChain(): Promise<ServerKeyChange[]> {
  return Promise.all([1, 2, 3].map((next) => signServerKeyChange(signers[next - 1]!, keyOf(next), next * 1000)))
}

test('SES-1: a client finds the newest key from any pin in the chain', async () => {
  const chain = await createChain()
  for (const pin of [0, 1, 2, 3]) {
    expect(verifyServerKeyChain(crypto, pinOf(pin), chain, 10_000)).toEqual(keyOf(3))
  }
})

test('SES-1: a change does not count before its time', async () => {
  const chain = await createChain()
  expect(verifyServerKeyChain(crypto, pinOf(0), chain, 999)).toEqual(keyOf(0))
  expect(verifyServerKeyChain(crypto, pinOf(0), chain, 1000)).toEqual(keyOf(1))
  expect(verifyServerKeyChain(crypto, pinOf(0), chain, 2500)).toEqual(keyOf(2))
  const early = await signServerKeyChange(signers[1]!, keyOf(2), 0)
  expect(verifyServerKeyChain(crypto, pinOf(0), [chain[0]!, early], 999)).toEqual(keyOf(0))
})

test('SES-1: a pin that is not in the chain, or a broken link behind it, gives no key', async () => {
  const chain = await createChain()
  const forged = { ...chain[1]!, newPublicKey: crypto.createSigner(crypto.randomBytes(32)).publicKey }
  expect(verifyServerKeyChain(crypto, crypto.randomBytes(32), chain, 10_000)).toBeUndefined()
  expect(verifyServerKeyChain(crypto, pinOf(0), [], 10_000)).toBeUndefined()
  expect(verifyServerKeyChain(crypto, pinOf(0), [chain[0]!, chain[2]!], 10_000)).toBeUndefined()
  expect(verifyServerKeyChain(crypto, pinOf(0), [chain[0]!, forged, chain[2]!], 10_000)).toBeUndefined()
  expect(verifyServerKeyChain(crypto, pinOf(0), [chain[0]!, forged], 10_000)).toBeUndefined()
  const early = { ...chain[0]!, notBeforeMs: 1 }
  expect(verifyServerKeyChain(crypto, pinOf(0), [early], 10_000)).toBeUndefined()
  expect(verifyServerKeyChain(crypto, pinOf(0), [{ ...chain[0]!, notBeforeMs: -1 }], 10_000)).toBeUndefined()
})

test('SES-1: a chain of more than a change a day for a year is not walked', async () => {
  const back = await signServerKeyChange(signers[1]!, keyOf(0), 0)
  const there = await signServerKeyChange(signers[0]!, keyOf(1), 0)
  const chain = Array.from({ length: 368 }, (_, i) => (i % 2 === 0 ? there : back))
  expect(verifyServerKeyChain(crypto, pinOf(0), chain.slice(0, 366), 0)).toEqual(keyOf(0))
  expect(verifyServerKeyChain(crypto, pinOf(0), chain, 0)).toBeUndefined()
})

test('H-2: no chain leads to a key of small order', async () => {
  const change = await signServerKeyChange(signers[0]!, new Uint8Array(32), 0)
  expect(verifyServerKeyChain(crypto, pinOf(0), [change], 10_000)).toBeUndefined()
})
