// Files of the server that hold secrets (OPS-2): what is decided about owner and mode, and that each kind of file is
// refused, with the command that mends it, when other users of the machine could read or replace it.

import { chmod, chown, lchown, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { judgePrivate, type PrivateKind } from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { readAdminAccess, writeAdminAccess } from '../src/admin/access.ts'
import { parseConfig } from '../src/config.ts'
import { checkFiles } from '../src/doctor/check-files.ts'
import { readPrivateFile } from '../src/files/private-file.ts'
import { openIdentity } from '../src/identity.ts'
import { draftFileOf, nextFileOf } from '../src/keys/identity-file.ts'
import { rotateKey } from '../src/keys/rotate-key.ts'

const ME = 1000
const OTHER = 1001
/** Giving a file away takes root. */
const isRoot = process.getuid?.() === 0

let folder: string
let file: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'valise-private-'))
  file = join(folder, 'identity.key')
})
afterEach(() => rm(folder, { recursive: true, force: true }))

describe('OPS-2: the decision', () => {
  const cases: [PrivateKind, uid: number, mode: number, problem: RegExp | undefined, remedy?: string][] = [
    ['file', ME, 0o100600, undefined],
    ['file', ME, 0o100400, undefined],
    ['file', 0, 0o100600, undefined],
    ['file', ME, 0o100644, /open to other users .*mode 644/, 'chmod 600 /x'],
    ['file', ME, 0o100640, /open to other users/, 'chmod 600 /x'],
    ['file', ME, 0o100601, /open to other users/, 'chmod 600 /x'],
    ['file', 0, 0o100640, /open to other users/, 'chmod 600 /x'],
    ['file', OTHER, 0o100600, /belongs to another user \(uid 1001\)/, 'run this as its owner, or: chown 1000 /x'],
    ['folder', ME, 0o40700, undefined],
    ['folder', ME, 0o40755, /open to other users/, 'chmod 700 /x'],
    ['folder', ME, 0o41777, /open to other users/, 'chmod 700 /x'],
    ['folder', OTHER, 0o40700, /belongs to another user/, 'run this as its owner, or: chown 1000 /x'],
    ['parent', ME, 0o40755, undefined],
    ['parent', 0, 0o41777, undefined],
    ['parent', ME, 0o40775, /can replace the files/, 'chmod go-w /x'],
    ['parent', 0, 0o40777, /can replace the files/, 'chmod go-w /x'],
    ['parent', OTHER, 0o40755, /belongs to another user/, 'run this as its owner, or: chown 1000 /x'],
  ]
  test.each(cases)('OPS-2: a %s of user %i with mode %o', (kind, uid, mode, problem, remedy) => {
    const fault = judgePrivate('/x', kind, { uid, mode }, ME)
    if (problem === undefined) return expect(fault).toBeUndefined()
    expect(fault?.problem).toMatch(problem)
    expect(fault?.remedy).toBe(remedy)
  })

  test('OPS-2: where the system knows no users nothing is refused', () => {
    expect(judgePrivate('/x', 'file', { uid: 0, mode: 0o100666 }, undefined)).toBeUndefined()
  })
})

describe('OPS-2: the keys of the server', () => {
  const open = () => openIdentity(nodeCrypto, file)

  test('OPS-2: an identity key or a next key that others can read stops the start, and stays as it is', async () => {
    await open()
    for (const secret of [file, nextFileOf(file)]) {
      for (const mode of [0o644, 0o640, 0o602]) {
        await chmod(secret, mode)
        await expect(open()).rejects.toThrow(`chmod 600 ${secret}`)
        expect((await stat(secret)).mode & 0o777).toBe(mode)
      }
      await chmod(secret, 0o600)
    }
    expect(await open()).toMatchObject({ isNew: false })
  })

  test('OPS-2: a folder in which others may replace the key stops the start', async () => {
    await open()
    await chmod(folder, 0o777)
    await expect(open()).rejects.toThrow(`chmod go-w ${folder}`)
    await chmod(folder, 0o755)
    expect(await open()).toMatchObject({ isNew: false })
  })

  test('OPS-2: rotate-key reads no next key, and finishes no change, from a file that others can read', async () => {
    await open()
    const away = join(folder, 'away.key')
    await rename(nextFileOf(file), away)
    await chmod(away, 0o644)
    await expect(rotateKey(nodeCrypto, file, away)).rejects.toThrow(`chmod 600 ${away}`)
    await chmod(away, 0o600)
    await rotateKey(nodeCrypto, file, away)
    await rename(nextFileOf(file), draftFileOf(file))
    await chmod(draftFileOf(file), 0o644)
    await expect(rotateKey(nodeCrypto, file)).rejects.toThrow(`chmod 600 ${draftFileOf(file)}`)
  })

  test('OPS-2: a link is followed, and what it leads to is judged, with both folders', async () => {
    await open()
    const elsewhere = join(folder, 'elsewhere')
    await mkdir(elsewhere, { mode: 0o700 })
    const target = join(elsewhere, 'key')
    await rename(file, target)
    await symlink(target, file)
    expect(await open()).toMatchObject({ isNew: false })
    await chmod(target, 0o644)
    await expect(open()).rejects.toThrow(`chmod 600 ${file}`)
    await chmod(target, 0o600)
    await chmod(elsewhere, 0o777)
    await expect(open()).rejects.toThrow(`chmod go-w ${elsewhere}`)
  })

  test('OPS-2: a folder under the name of a key is none', async () => {
    await mkdir(file)
    await expect(readPrivateFile(file)).rejects.toThrow('is not a regular file')
    expect(await readPrivateFile(join(folder, 'nothing'))).toBeUndefined()
  })

  test.runIf(isRoot)('OPS-2: a key, a link or a folder of another user stops the start', async () => {
    await open()
    await chown(file, OTHER, OTHER)
    await expect(open()).rejects.toThrow(`chown 0 ${file}`)
    await chown(file, 0, 0)
    await chown(folder, OTHER, OTHER)
    await expect(open()).rejects.toThrow(`chown 0 ${folder}`)
    await chown(folder, 0, 0)
    const link = join(folder, 'link.key')
    await symlink(file, link)
    await lchown(link, OTHER, OTHER)
    await expect(readPrivateFile(link)).rejects.toThrow(`chown 0 ${link}`)
  })

  test('OPS-2, SEE-7: doctor says what the start would, and changes nothing', async () => {
    await open()
    const config = parseConfig({ VALISE_DATA_DIR: folder }, {})
    const complaints = async () =>
      (await checkFiles(config)).flatMap((found) =>
        found.status === 'wrong' ? [`${found.text}: ${found.remedy}`] : [],
      )
    expect(await complaints()).toEqual([])
    await chmod(nextFileOf(file), 0o644)
    await mkdir(join(folder, 'database'), { mode: 0o755 })
    expect(await complaints()).toEqual([
      expect.stringContaining(`chmod 700 ${join(folder, 'database')}`),
      expect.stringContaining(`chmod 600 ${nextFileOf(file)}`),
    ])
    expect((await stat(nextFileOf(file))).mode & 0o777).toBe(0o644)
  })
})

describe('OPS-2: the access file of the embedded database', () => {
  test('OPS-2: it is made for its owner alone, and read by nobody when it is open', async () => {
    const access = { url: 'http://127.0.0.1:1', token: '0'.repeat(64) }
    await writeAdminAccess(folder, access)
    expect(await readAdminAccess(folder)).toEqual(access)
    const path = join(folder, 'admin-access.json')
    await chmod(path, 0o640)
    await expect(readAdminAccess(folder)).rejects.toThrow(`chmod 600 ${path}`)
    expect((await readFile(path, 'utf8')).length).toBeGreaterThan(64)
    expect(await readdir(folder)).toEqual(['admin-access.json'])
  })
})
