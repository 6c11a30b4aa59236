// What lies sealed on the disk, and the file that holds the key to it.

import { chmod, mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openKeyFile } from '../src/node/key-file.ts'
import { createAtRestSealer } from '../src/store/at-rest.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'valise-key-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const sealer = createAtRestSealer(new Uint8Array(32).fill(1), crypto)
const secret = new TextEncoder().encode('a plain text that nobody else may read')

test('P1: a sealed record opens under its own key only, and shows nothing of what it holds', () => {
  const sealed = sealer.seal('outbox/1', secret)
  expect(sealer.open('outbox/1', sealed)).toEqual(secret)
  expect(Buffer.from(sealed).includes(Buffer.from(secret.subarray(0, 8)))).toBe(false)
  expect(sealer.seal('outbox/1', secret)).not.toEqual(sealed)
  expect(() => sealer.open('outbox/2', sealed)).toThrow(/store is damaged/)
  expect(() => createAtRestSealer(new Uint8Array(32), crypto).open('outbox/1', sealed)).toThrow(/store is damaged/)
})

test('P1: every flipped bit and every cut of a sealed record is noticed', () => {
  const sealed = sealer.seal('a', secret)
  for (let at = 0; at < sealed.length; at++) {
    const changed = sealed.slice()
    changed[at]! ^= 1
    expect(() => sealer.open('a', changed)).toThrow(/store is damaged/)
    expect(() => sealer.open('a', sealed.subarray(0, at))).toThrow(/store is damaged/)
  }
})

test('a key file is made once, with mode 0600, and read again', async () => {
  const path = join(folder, 'storage.key')
  const key = await openKeyFile(path)
  expect(key).toHaveLength(32)
  expect((await stat(path)).mode & 0o777).toBe(0o600)
  expect(await openKeyFile(path)).toEqual(key)
  expect(await openKeyFile(join(folder, 'other.key'))).not.toEqual(key)
})

test('a key file that others can read, or of another length, is refused', async () => {
  const open = join(folder, 'open.key')
  await writeFile(open, new Uint8Array(32), { mode: 0o600 })
  await chmod(open, 0o640)
  await expect(openKeyFile(open)).rejects.toMatchObject({ code: 'unsafe_permissions' })
  const short = join(folder, 'short.key')
  await writeFile(short, new Uint8Array(31), { mode: 0o600 })
  await expect(openKeyFile(short)).rejects.toMatchObject({ code: 'damaged' })
})
