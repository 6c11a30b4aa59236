// The map behind the states of a device log: it holds what a Map holds, and what was made before stays as it was.

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { findIn, type PrefixTree, putInto, valuesIn } from '../src/device-log/prefix-tree.ts'

/** Few digits, so that keys share prefixes of every length, and come again. */
const KEY = fc.string({ unit: fc.constantFrom('0', '1', 'f'), minLength: 5, maxLength: 5 })

describe('a prefix tree', () => {
  test('DEV-1: each version holds what a map of its own holds, in the order of the keys', () => {
    const steps = fc.array(fc.record({ key: KEY, from: fc.nat() }), { maxLength: 60 })
    fc.assert(
      fc.property(steps, fc.array(KEY), (puts, asked) => {
        const versions: { tree: PrefixTree<number>; map: ReadonlyMap<string, number> }[] = [
          { tree: undefined, map: new Map() },
        ]
        for (const [value, { key, from }] of puts.entries()) {
          // Mostly from the newest, sometimes a branch from an older one.
          const { tree, map } = versions[from % 3 === 0 ? from % versions.length : versions.length - 1]!
          versions.push({ tree: putInto(tree, key, value), map: new Map(map).set(key, value) })
        }
        for (const { tree, map } of versions) {
          const inOrder = [...map].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, value]) => value)
          expect([...valuesIn(tree)]).toEqual(inOrder)
          for (const key of [...map.keys(), ...asked]) expect(findIn(tree, key)).toBe(map.get(key))
        }
      }),
    )
  })

  test('DEV-1: keys of two lengths in one tree are a fault of the caller', () => {
    const tree = putInto(undefined, 'ab', 1)
    expect(() => putInto(tree, 'abc', 2)).toThrow(RangeError)
  })
})
