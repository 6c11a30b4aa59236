// One contract for every store, and what the file store promises besides.

import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { openFileStore } from '../src/node/file-store.ts'
import { createMemoryStore } from '../src/store/memory-store.ts'
import { del, put, type Store, type StoreRange } from '../src/store/store.ts'

const folders: string[] = []
const createFolder = async (): Promise<string> => {
  const folder = await mkdtemp(join(tmpdir(), 'valise-store-'))
  folders.push(folder)
  return folder
}
afterEach(async () => {
  for (const folder of folders.splice(0)) await rm(folder, { recursive: true, force: true })
})

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values)
const keysOf = async (store: Store, range: StoreRange): Promise<string[]> => {
  const keys: string[] = []
  for await (const [key] of store.range(range)) keys.push(key)
  return keys
}

const STORES: readonly (readonly [string, () => Promise<Store>])[] = [
  ['in memory', async () => createMemoryStore()],
  ['in a folder', async () => openFileStore(join(await createFolder(), 'store'))],
]

describe.each(STORES)('a store %s', (_name, open) => {
  test('gives back what was put, byte for byte, and nothing for other keys', async () => {
    const store = await open()
    const value = Uint8Array.from({ length: 256 }, (_, i) => i)
    await store.batch([put('a', value), put('empty', bytes())])
    expect(new Uint8Array((await store.get('a'))!)).toEqual(value)
    expect(await store.get('empty')).toHaveLength(0)
    expect(await store.get('b')).toBeUndefined()
    await store.close()
  })

  test('P4: a batch is applied as a whole and in order', async () => {
    const store = await open()
    await store.batch([put('a', bytes(1)), put('b', bytes(2))])
    await store.batch([del('a'), put('b', bytes(3)), put('c', bytes(4)), del('nothing')])
    expect(await keysOf(store, {})).toEqual(['b', 'c'])
    expect(new Uint8Array((await store.get('b'))!)).toEqual(bytes(3))
    await store.batch([])
    await store.close()
  })

  test('ranges are in key order, with every kind of bound', async () => {
    const store = await open()
    await store.batch(['a', 'b', 'c', 'd', 'é'].map((key) => put(key, bytes(1))))
    expect(await keysOf(store, {})).toEqual(['a', 'b', 'c', 'd', 'é'])
    expect(await keysOf(store, { gt: 'a', lt: 'd' })).toEqual(['b', 'c'])
    expect(await keysOf(store, { gte: 'a', lte: 'd', limit: 3 })).toEqual(['a', 'b', 'c'])
    expect(await keysOf(store, { lte: 'c', reverse: true, limit: 2 })).toEqual(['c', 'b'])
    expect(await keysOf(store, { gt: 'x', lt: 'y' })).toEqual([])
    await store.close()
  })

  test('a range shows the state of its beginning and may be left early', async () => {
    const store = await open()
    await store.batch(['a', 'b', 'c'].map((key) => put(key, bytes(1))))
    const seen: string[] = []
    for await (const [key] of store.range({})) {
      if (seen.length === 0) await store.batch([del('b'), put('d', bytes(1))])
      seen.push(key)
    }
    expect(seen).toEqual(['a', 'b', 'c'])
    for await (const [key] of store.range({})) {
      expect(key).toBe('a')
      break
    }
    await store.close()
  })
})

describe('a store in a folder', () => {
  test('P3: what a batch stored is there after the store is opened again', async () => {
    const folder = join(await createFolder(), 'store')
    const first = await openFileStore(folder)
    await first.batch([put('a', bytes(1, 2, 3))])
    await first.close()
    const second = await openFileStore(folder)
    expect(new Uint8Array((await second.get('a'))!)).toEqual(bytes(1, 2, 3))
    await second.close()
  })

  test('only its owner can look into the folder, and a second opener is told that it is in use', async () => {
    const folder = join(await createFolder(), 'store')
    const store = await openFileStore(folder)
    expect((await stat(folder)).mode & 0o777).toBe(0o700)
    await expect(openFileStore(folder)).rejects.toMatchObject({ code: 'in_use' })
    await store.close()
  })
})
