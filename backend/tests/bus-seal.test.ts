// The seal of a message on the bus, byte by byte: what nobody with the key made opens nothing, however long or short it is.

import { describe, expect, test } from 'vitest'
import { MAX_MESSAGE_BYTES } from '../src/bus/announcement-codec.ts'
import { openFromBus, sealForBus } from '../src/bus/bus-seal.ts'
import { busKeysOf } from './support/bus-keys.ts'

const keys = busKeysOf(1)
const SEAL_BYTES = 36
const message = Buffer.from('a message of a node')

describe('the seal of the bus', () => {
  test('BUS-5: a sealed message opens on its channel and on no other', () => {
    const sealed = sealForBus(keys, 'events:a', message)
    expect(openFromBus(keys, 'events:a', sealed)).toEqual(message)
    for (const channel of ['events:b', 'events:', 'events:aa'])
      expect(openFromBus(keys, channel, sealed)).toBeUndefined()
  })

  test('BUS-5: no byte of it can be changed', () => {
    const sealed = sealForBus(keys, 'events:a', message)
    for (let at = 0; at < sealed.length; at++) {
      const changed = Buffer.from(sealed)
      changed[at]! ^= 1
      expect(openFromBus(keys, 'events:a', changed), `byte ${at}`).toBeUndefined()
    }
  })

  test('BUS-5: bytes of every length without a seal open nothing, and nothing throws', () => {
    for (let length = 0; length <= 2 * SEAL_BYTES; length++) {
      expect(openFromBus(keys, 'events:a', Buffer.alloc(length))).toBeUndefined()
      expect(openFromBus(keys, 'events:a', Buffer.alloc(length, 1))).toBeUndefined()
    }
  })

  test('P5: an empty message and the largest one open, and one byte more does not', () => {
    for (const [length, opens] of [
      [0, true],
      [MAX_MESSAGE_BYTES, true],
      [MAX_MESSAGE_BYTES + 1, false],
    ] as const) {
      const sealed = sealForBus(keys, 'events:a', Buffer.alloc(length))
      expect(openFromBus(keys, 'events:a', sealed)?.length).toBe(opens ? length : undefined)
    }
  })
})
