// The data folder and the identity key: there, for their owner alone, and with room on the disk. Nothing is made or
// changed.

import { constants } from 'node:fs'
import { access, readFile, stat, statfs } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import type { Config } from '../config.ts'
import { findFileFault, findFolderFault } from '../files/private-file.ts'
import { findNextKey } from '../identity.ts'
import { draftFileOf, nextFileOf, parseIdentity } from '../keys/identity-file.ts'
import { describeStorage } from './describe-storage.ts'
import { codeOf, type Finding, findingsOf, messageOf } from './finding.ts'

const folderFindings = findingsOf('files')
const { ok, note, wrong } = folderFindings
const LITTLE_SPACE_BYTES = 1024 ** 3
const MIB = 1024 * 1024

export async function checkFiles(config: Config): Promise<Finding[]> {
  const folder = await checkFolder(config)
  return [...folder, ...(await checkIdentity(config.identityFile))]
}

async function checkFolder({ dataDir, databaseUrl, storage }: Config): Promise<Finding[]> {
  const found = await stat(dataDir).catch((error: unknown) => codeOf(error) ?? 'unknown')
  if (found === 'ENOENT') return [await checkParent(dataDir)]
  if (typeof found === 'string') {
    return [
      wrong(`the data folder ${dataDir} cannot be looked at (${found})`, 'give it to the user who runs the server'),
    ]
  }
  if (!found.isDirectory()) {
    return [wrong(`${dataDir} is a file, not a folder`, 'name another folder with --data or VALISE_DATA_DIR')]
  }
  const findings: Finding[] = []
  if (!(await mayUse(dataDir, constants.R_OK | constants.W_OK | constants.X_OK))) {
    findings.push(
      wrong(`the data folder ${dataDir} cannot be written by this user`, 'run as its owner, or give it to this user'),
    )
  } else {
    const fault = await findFolderFault(dataDir)
    findings.push(
      fault === undefined
        ? ok(`the data folder ${dataDir} is for its owner alone`)
        : note(`the data folder: ${fault.problem}`, fault.remedy),
    )
    const inside = await findFolderFault(join(dataDir, 'database'))
    if (inside !== undefined) findings.push(wrong(`the embedded database: ${inside.problem}`, inside.remedy))
  }
  const { bavail, bsize } = await statfs(dataDir)
  if (databaseUrl === undefined) {
    const remedy = 'make room, or move the folder to a larger disk'
    const left = { bytes: bavail * bsize, where: `on the disk of ${dataDir}`, remedy }
    return [...findings, describeStorage(folderFindings, left, storage.marks)]
  }
  const freeMib = Math.floor((bavail * bsize) / MIB)
  findings.push(
    bavail * bsize < LITTLE_SPACE_BYTES
      ? note(`only ${freeMib} MiB are free on the disk of ${dataDir}`, 'make room, or move the folder to a larger disk')
      : ok(`${freeMib} MiB are free on its disk`),
  )
  return findings
}

async function checkParent(dataDir: string): Promise<Finding> {
  let parent = dirname(dataDir)
  while (parent !== dirname(parent) && (await stat(parent).catch(() => undefined)) === undefined)
    parent = dirname(parent)
  return (await mayUse(parent, constants.W_OK | constants.X_OK))
    ? ok(`the data folder ${dataDir} will be made at the first start`)
    : wrong(`the data folder ${dataDir} is not there and cannot be made`, `make it, or give ${parent} to this user`)
}

async function checkIdentity(file: string): Promise<Finding[]> {
  try {
    const text = await readFile(file, 'utf8')
    const record = parseIdentity(text)
    record?.seed.fill(0)
    if (record === undefined) {
      return [wrong(`${file} is not an identity key`, 'restore it from a backup; with a new one every device is lost')]
    }
    for (const [name, secret] of [
      ['identity key', file],
      ['next key', nextFileOf(file)],
    ] as const) {
      const fault = await findFileFault(secret)
      if (fault !== undefined) return [wrong(`the ${name}: ${fault.problem}`, fault.remedy)]
    }
    return [
      ok(`the identity key ${file} is for its owner alone; keep a copy of it in a safe place`),
      ...(await checkNextKey(file, record.nextFingerprint)),
    ]
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return [ok(`the identity key ${file} will be made at the first start`)]
    return [
      wrong(`the identity key ${file} cannot be read: ${messageOf(error)}`, 'give it to the user who runs the server'),
    ]
  }
}

/** The next key must not be stolen together with the first. */
async function checkNextKey(file: string, nextFingerprint: Uint8Array): Promise<Finding[]> {
  const nextFile = nextFileOf(file)
  const draft = draftFileOf(file)
  const isInterrupted = (await stat(draft).catch(() => undefined)) !== undefined
  return [
    ...(isInterrupted
      ? [
          note(
            `a change of the key was interrupted: ${draft} is there`,
            'run `valise admin rotate-key`; it finishes it',
          ),
        ]
      : []),
    await describeNextKey(file, nextFile, nextFingerprint),
  ]
}

async function describeNextKey(file: string, nextFile: string, nextFingerprint: Uint8Array): Promise<Finding> {
  switch (await findNextKey(nodeCrypto, file, nextFingerprint)) {
    case 'here':
      return note(
        `the next key ${nextFile} lies beside the identity key: anyone who copies both can take the server over`,
        `move ${nextFile} to a safe place on another machine`,
      )
    case 'away':
      return ok(
        `the next key is not on this machine, as it should be; without its file the key of this server cannot be changed: make sure that you have it (${nextFile})`,
      )
    case 'other':
      return note(
        `${nextFile} is not the next key of this identity`,
        'move it away, and look for the right one: without it the key of this server cannot be changed',
      )
  }
}

const mayUse = (path: string, mode: number): Promise<boolean> =>
  access(path, mode).then(
    () => true,
    () => false,
  )
