// Bytes in and out, at the edges: what one digit, one byte or one bit more or less makes of them.

import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import {
  createByteReader,
  createByteWriter,
  decodeUtf8,
  encodeUtf8,
  equalBytes,
  fromBase64Url,
  fromHex,
  toBase64Url,
  toHex,
} from '../src/bytes.ts'
import { deviceIdOf, KEM_X_WING, KEM_X25519 } from '../src/device-log/device-record.ts'
import { formatUuid, parseUuid } from '../src/ids.ts'
import { hashWithContext, hkdfExpand, kdf } from '../src/kdf.ts'
import { nodeCrypto as crypto } from '../src/node-crypto.ts'

const sized = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i * 7)

describe('bytes', () => {
  test('CRY-3: are equal only when none is missing', () => {
    const bytes = sized(32)
    expect(equalBytes(bytes, bytes.slice())).toBe(true)
    expect(equalBytes(bytes, bytes.subarray(0, 31))).toBe(false)
    expect(equalBytes(bytes.subarray(0, 31), bytes)).toBe(false)
    expect(equalBytes(new Uint8Array(0), bytes)).toBe(false)
  })

  test('have one text each, whatever their length', () => {
    for (const length of [0, 1, 2, 3, 32, 2047, 2048, 2049, 3071, 3072, 3073, 5000]) {
      const bytes = sized(length)
      expect(toHex(bytes)).toBe(Buffer.from(bytes).toString('hex'))
      expect(toBase64Url(bytes)).toBe(Buffer.from(bytes).toString('base64url'))
      expect(fromHex(toHex(bytes))).toEqual(bytes)
      expect(fromBase64Url(toBase64Url(bytes))).toEqual(bytes)
    }
  })

  test.each(['a', 'abc', '0g', ' 00', '0x00'])('are not in %j as hexadecimal', (text) => {
    expect(fromHex(text)).toBeUndefined()
  })

  test.each([
    ['one character too few', 'AAAAA'],
    ['padding', 'AA=='],
    ['the alphabet of base64', 'A+AA'],
    ['a character beyond ASCII', 'AAA\u0100'],
    ['bits beyond the last byte', 'AB'],
    ['bits beyond the last two bytes', 'AAB'],
  ])('are not in base64url with %s', (_name, text) => {
    expect(fromBase64Url(text)).toBeUndefined()
  })

  test('are text as they stand, a byte order mark included, or none', () => {
    expect(decodeUtf8(Uint8Array.of(0xef, 0xbb, 0xbf, 0x61))).toBe('\ufeffa')
    expect(decodeUtf8(Uint8Array.of(0xc0, 0x80))).toBeUndefined()
  })

  test('a writer takes no integer out of range, and a reader that failed stays failed', () => {
    for (const value of [-1, 256, 0.5]) expect(() => createByteWriter().u8(value)).toThrow(RangeError)
    expect(() => createByteWriter().u64(2 ** 53)).toThrow(RangeError)
    const reader = createByteReader(Uint8Array.of(1, 2, 3))
    expect(reader.u32()).toBe(0)
    expect(reader.u8()).toBe(0)
    expect(reader.bytes(3)).toEqual(new Uint8Array(0))
    expect(reader.finish()).toBe(false)
  })
})

describe('names made of bytes', () => {
  test('a UUID is 36 characters and no more', () => {
    const id = sized(16)
    const text = formatUuid(id)
    expect(parseUuid(text)).toEqual(id)
    for (const wrong of [`${text}00`, `00${text}`, text.slice(0, -1), text.replaceAll('-', '')]) {
      expect(parseUuid(wrong)).toBeUndefined()
    }
  })

  test('DEV-1: a device id is made of both keys and the kind of KEM', () => {
    for (const [kemId, code] of [
      [KEM_X_WING, [0x64, 0x7a]],
      [KEM_X25519, [0x00, 0x20]],
    ] as const) {
      const edPub = sized(32)
      const kemPub = new Uint8Array(32).fill(5)
      const hash = createHash('sha256')
        .update('valise device-id\0')
        .update(edPub)
        .update(Uint8Array.of(...code, 0, 0, 0, 32))
        .update(kemPub)
        .digest()
      const expected = Uint8Array.from(hash.subarray(0, 16))
      expected[6] = (expected[6]! & 0x0f) | 0x80
      expected[8] = (expected[8]! & 0x3f) | 0x80
      for (const role of ['member', 'manager'] as const) {
        expect(deviceIdOf(crypto, { role, edPub, kemId, kemPub })).toEqual(expected)
      }
    }
  })
})

describe('derivations', () => {
  test('CRY-1: a hash with a domain is that of domain and data, however long', () => {
    const domain = 'valise event\0'
    for (const length of [0, 4096 - domain.length, 4097 - domain.length, 5000]) {
      const expected = createHash('sha256').update(domain).update(sized(length)).digest()
      expect(hashWithContext(crypto, 'event', sized(length))).toEqual(new Uint8Array(expected))
    }
  })

  test('CRY-1: a label and a context have at most 255 bytes, and a length two', () => {
    const secret = sized(32)
    const label = 'x'.repeat(255 - 'valise '.length)
    const context = sized(255)
    const info = Uint8Array.of(0x01, 0x2c, 255, ...encodeUtf8(`valise ${label}`), 255, ...context)
    expect(kdf(crypto, secret, label, context, 300)).toEqual(hkdfExpand(crypto, secret, info, 300))
    expect(() => kdf(crypto, secret, `${label}x`, context)).toThrow(RangeError)
    expect(() => kdf(crypto, secret, label, sized(256))).toThrow(RangeError)
    expect(() => kdf(crypto, secret, label, context, 0x10000)).toThrow(RangeError)
  })
})
