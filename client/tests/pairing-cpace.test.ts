// The vectors of the CPace draft (G_Coffee25519 is its name for ristretto255), through the functions that pair devices.

import { encodeUtf8, toHex } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { describe, expect, test } from 'vitest'
import { hex, readFigures } from '../../protocol/tests/support/vectors.ts'
import { cpaceGenerator, cpaceScalar, cpaceSessionKey, cpaceShare, cpaceSharedPoint } from '../src/pairing/cpace.ts'

const [vector] = readFigures<Readonly<Record<string, string>>>('cpace')
const run = Object.fromEntries(Object.entries(vector!).map(([name, text]) => [name, hex(text)]))
const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n

const toBigInt = (bytes: Uint8Array): bigint => BigInt(`0x${toHex(bytes.toReversed())}`)

describe('CPace over ristretto255', () => {
  const generator = (): Uint8Array =>
    cpaceGenerator({ secret: run['PRS']!, channel: run['CI']!, sessionId: run['sid']! })

  test('PAIR-1: the generator, both shares and the shared point are those of the draft', () => {
    expect(generator()).toEqual(run['g'])
    expect(cpaceShare(generator(), run['ya']!)).toEqual(run['Ya'])
    expect(cpaceShare(generator(), run['yb']!)).toEqual(run['Yb'])
    expect(cpaceSharedPoint(run['ya']!, run['Yb']!)).toEqual(run['K'])
    expect(cpaceSharedPoint(run['yb']!, run['Ya']!)).toEqual(run['K'])
  })

  test('PAIR-1: the session key is that of the draft, initiator and responder in their places', () => {
    const a = { share: run['Ya']!, associatedData: run['ADa']! }
    const b = { share: run['Yb']!, associatedData: run['ADb']! }
    expect(cpaceSessionKey(run['sid']!, run['K']!, a, b)).toEqual(run['ISK_IR'])
    expect(cpaceSessionKey(run['sid']!, run['K']!, b, a)).not.toEqual(run['ISK_IR'])
  })

  test('PAIR-1: a valid point is multiplied as in the draft', () => {
    expect(cpaceSharedPoint(run['s']!, run['X']!)).toEqual(run['product'])
  })

  test.each([
    ['what is no canonical encoding', run['invalid1']!],
    ['the identity element', run['invalid2']!],
    ['a field element above the prime', hex(`ed${'ff'.repeat(30)}7f`)],
    ['all bits', hex('ff'.repeat(32))],
    ['a negative field element', hex(`01${'00'.repeat(31)}`)],
    ['a byte too few', run['invalid1']!.subarray(1)],
    ['a byte too many', new Uint8Array([...run['X']!, 0])],
    ['nothing', new Uint8Array(0)],
  ])('PAIR-1: %s is refused', (_name, share) => {
    expect(cpaceSharedPoint(run['s']!, share)).toBeUndefined()
  })

  test('PAIR-1: another secret, channel or session makes another generator, and their borders count', () => {
    const inputs = { secret: encodeUtf8('12'), channel: encodeUtf8('ab'), sessionId: encodeUtf8('xy') }
    const variants = [
      inputs,
      { ...inputs, secret: encodeUtf8('13') },
      { ...inputs, secret: encodeUtf8('1'), channel: encodeUtf8('2ab') },
      { ...inputs, channel: encodeUtf8('a'), sessionId: encodeUtf8('bxy') },
      { ...inputs, channel: encodeUtf8('abx'), sessionId: encodeUtf8('y') },
      { ...inputs, secret: new Uint8Array(200).fill(7) },
    ]
    expect(new Set(variants.map((variant) => toHex(cpaceGenerator(variant)))).size).toBe(variants.length)
  })

  test('PAIR-1: scalars are drawn anew, below the order and never zero', () => {
    const zeroFirst = [new Uint8Array(64), new Uint8Array(64).fill(0xff)]
    const scalar = cpaceScalar({ randomBytes: () => zeroFirst.shift()! })
    expect(toBigInt(scalar)).toBe((2n ** 512n - 1n) % ORDER)
    expect(cpaceScalar(crypto)).not.toEqual(cpaceScalar(crypto))
  })
})
