// The files of the server's identity: made together and never later, and changed in steps of which any may be the last.

import { cp, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { followServerKeys, toBase64Url } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { parseConfig } from '../src/config.ts'
import { checkFiles } from '../src/doctor/check-files.ts'
import { describeNextKey, openIdentity } from '../src/identity.ts'
import { draftFileOf, formatIdentity, nextFileOf, parseIdentity } from '../src/keys/identity-file.ts'
import { rotateKey } from '../src/keys/rotate-key.ts'

/** Of a secret file: other modes are refused. */
const OWNED = { mode: 0o600 }

let folder: string
let file: string
let nextFile: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'valise-identity-'))
  file = join(folder, 'identity.key')
  nextFile = nextFileOf(file)
})
afterEach(() => rm(folder, { recursive: true, force: true }))

const open = () => openIdentity(crypto, file)
const doctor = async (): Promise<string[]> =>
  (await checkFiles(parseConfig({ VALISE_DATA_DIR: folder }, {}))).map(({ status, text }) => `${status}: ${text}`)

describe('the first start', () => {
  test('KEY-1: makes both keys at once, for their owner alone, and the first names the second', async () => {
    const made = await open()
    expect(made).toMatchObject({ isNew: true, nextKey: 'here', change: undefined })
    expect((await readdir(folder)).sort()).toEqual(['identity-next.key', 'identity.key'])
    for (const path of [file, nextFile]) expect((await stat(path)).mode & 0o777).toBe(0o600)
    const again = await open()
    expect(again).toMatchObject({ isNew: false, fingerprint: made.fingerprint, nextFingerprint: made.nextFingerprint })
  })

  test('KEY-1: of many nodes that start at once one makes the keys, and all have the same', async () => {
    const opened = await Promise.all(Array.from({ length: 8 }, open))
    expect(opened.filter(({ isNew }) => isNew)).toHaveLength(1)
    for (const { fingerprint, nextFingerprint, nextKey } of opened) {
      expect({ fingerprint, nextFingerprint, nextKey }).toEqual({
        fingerprint: opened[0]!.fingerprint,
        nextFingerprint: opened[0]!.nextFingerprint,
        nextKey: 'here',
      })
    }
  })

  test('KEY-1: a next key that is not there is told and not made again', async () => {
    await open()
    expect(await doctor()).toContainEqual(expect.stringMatching(/^note: the next key .* lies beside the identity key/))
    await rm(nextFile)
    expect(await open()).toMatchObject({ isNew: false, nextKey: 'away' })
    expect(await readdir(folder)).toEqual(['identity.key'])
    expect(describeNextKey(file, 'away')).toContain('cannot be changed')
    expect(await doctor()).toContainEqual(expect.stringMatching(/^ok: the next key is not on this machine/))
    const other = join(folder, 'other')
    await openIdentity(crypto, join(other, 'identity.key'))
    await cp(join(other, 'identity-next.key'), nextFile)
    expect(await open()).toMatchObject({ nextKey: 'other' })
    expect(await doctor()).toContainEqual(expect.stringContaining('is not the next key of this identity'))
  })

  test('KEY-1: an identity that was lost is not made again beside its next key', async () => {
    await open()
    await rm(file)
    await expect(open()).rejects.toThrow(/identity\.key is not there, but .*identity-next\.key is/)
    expect(await readdir(folder)).toEqual(['identity-next.key'])
  })

  test('KEY-1: a file of an earlier version, and one that is none, are refused with what to do', async () => {
    await writeFile(file, `valise-identity-1 ${Buffer.alloc(32, 7).toString('base64url')}\n`, OWNED)
    await expect(open()).rejects.toThrow(/earlier version.*valise trust/)
    await writeFile(file, 'nonsense\n', OWNED)
    await expect(open()).rejects.toThrow(/restore it from a backup/)
  })

  test('KEY-1: what is written is read again, with a change and without', async () => {
    const record = { seed: crypto.randomBytes(32), nextFingerprint: crypto.randomBytes(32), change: undefined }
    for (const change of [undefined, crypto.randomBytes(225)]) {
      expect(parseIdentity(formatIdentity({ ...record, change }))).toEqual({ ...record, change })
      expect(parseIdentity(`${formatIdentity({ ...record, change })}more\n`)).toBeUndefined()
    }
  })
})

describe('a change of the key', () => {
  test('KEY-2: the next key is in use, another one is made, and a client can follow', async () => {
    const before = await open()
    const rotated = await rotateKey(crypto, file)
    const after = await open()
    expect(after).toMatchObject({ fingerprint: before.nextFingerprint, nextKey: 'here', change: rotated.change })
    expect(rotated).toMatchObject({ from: before.fingerprint, nextFingerprint: after.nextFingerprint, nextFile })
    expect((await readdir(folder)).sort()).toEqual(['identity-next.key', 'identity.key'])
    for (const path of [file, nextFile]) expect((await stat(path)).mode & 0o777).toBe(0o600)
    const { fingerprint, nextFingerprint } = before
    expect(followServerKeys(crypto, { fingerprint, nextFingerprint }, [rotated.change])).toMatchObject({
      ok: true,
      pin: { fingerprint: after.fingerprint, nextFingerprint: after.nextFingerprint },
    })
  })

  test('KEY-2: the next key is taken from where the operator keeps it', async () => {
    const before = await open()
    const safe = join(folder, 'safe.key')
    await rename(nextFile, safe)
    await expect(rotateKey(crypto, file)).rejects.toThrow(/name the file in which you keep it with --next/)
    expect(await open()).toMatchObject({ fingerprint: before.fingerprint })
    expect(await rotateKey(crypto, file, safe)).toMatchObject({ fingerprint: before.nextFingerprint })
  })

  test('KEY-3: who copied the identity key alone cannot change it', async () => {
    await open()
    const stolen = join(folder, 'stolen')
    const own = join(stolen, 'identity.key')
    // He makes keys of his own, and puts the stolen one in the place of the first.
    await openIdentity(crypto, own)
    await cp(file, own)
    const text = await readFile(own, 'utf8')
    await expect(rotateKey(crypto, own)).rejects.toThrow(/a next key of another identity/)
    await writeFile(nextFileOf(own), 'valise-identity-next-1 x\n', OWNED)
    await expect(rotateKey(crypto, own)).rejects.toThrow(/is not the file of a next key/)
    expect(await readFile(own, 'utf8')).toBe(text)
  })

  test('KEY-2: one that ended after the identity had changed is finished by the next call', async () => {
    await open()
    const oldNext = await readFile(nextFile, 'utf8')
    const rotated = await rotateKey(crypto, file)
    // As it stands before the last step.
    await rename(nextFile, draftFileOf(file))
    await writeFile(nextFile, oldNext, OWNED)
    expect(await open()).toMatchObject({ fingerprint: rotated.fingerprint, nextKey: 'other' })
    expect(await doctor()).toContainEqual(expect.stringContaining('a change of the key was interrupted'))
    expect(await rotateKey(crypto, file)).toEqual({ ...rotated, from: undefined })
    expect(await open()).toMatchObject({ fingerprint: rotated.fingerprint, nextKey: 'here' })
  })

  test('KEY-2: one that ended before it had changed anything stands in the way until a person has looked', async () => {
    const before = await open()
    await writeFile(draftFileOf(file), await readFile(nextFile, 'utf8'), OWNED)
    await expect(rotateKey(crypto, file)).rejects.toThrow(/another rotate-key runs.*remove that file/)
    expect(await open()).toMatchObject({ fingerprint: before.fingerprint, nextKey: 'here' })
    await rm(draftFileOf(file))
    expect(await rotateKey(crypto, file)).toMatchObject({ from: before.fingerprint })
  })

  test('KEY-2: of two at once one changes the key', async () => {
    const before = await open()
    const outcomes = await Promise.allSettled(Array.from({ length: 4 }, () => rotateKey(crypto, file)))
    const changed = outcomes.flatMap((outcome) =>
      outcome.status === 'fulfilled' && outcome.value.from !== undefined ? [outcome.value] : [],
    )
    // One that comes wholly after another changes the key again; none changes it from the same key.
    expect(new Set(changed.map(({ from }) => toBase64Url(from!))).size).toBe(changed.length)
    expect(changed.length).toBeGreaterThan(0)
    const { fingerprint, nextFingerprint } = before
    const chain = changed.map(({ change }) => change)
    const after = await open()
    expect(followServerKeys(crypto, { fingerprint, nextFingerprint }, chain)).toMatchObject({
      ok: true,
      pin: { fingerprint: after.fingerprint, nextFingerprint: after.nextFingerprint },
    })
    expect(after.nextKey).toBe('here')
  })
})
