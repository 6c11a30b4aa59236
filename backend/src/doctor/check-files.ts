// The data folder and the identity key: there, for their owner alone, and with room on the disk. Nothing is made or
// changed.

import { constants } from 'node:fs'
import { access, readFile, stat, statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Config } from '../config.ts'
import { readSeed } from '../identity.ts'
import { codeOf, type Finding, findingsOf, messageOf } from './finding.ts'

const { ok, note, wrong } = findingsOf('files')
const LITTLE_SPACE_BYTES = 1024 ** 3
const FOR_OTHERS = 0o077
const MIB = 1024 * 1024

export async function checkFiles(config: Config): Promise<Finding[]> {
  const folder = await checkFolder(config.dataDir)
  return [...folder, ...(await checkIdentity(config.identityFile))]
}

async function checkFolder(dataDir: string): Promise<Finding[]> {
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
  } else if ((found.mode & FOR_OTHERS) !== 0) {
    const mode = (found.mode & 0o777).toString(8)
    findings.push(note(`the data folder ${dataDir} is open to others (mode ${mode})`, `chmod 700 ${dataDir}`))
  } else {
    findings.push(ok(`the data folder ${dataDir} is for its owner alone`))
  }
  const { bavail, bsize } = await statfs(dataDir)
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
    const [text, { mode }] = await Promise.all([readFile(file, 'utf8'), stat(file)])
    const seed = readSeed(text)
    seed?.fill(0)
    if (seed === undefined) {
      return [wrong(`${file} is not an identity key`, 'restore it from a backup; with a new one every device is lost')]
    }
    if ((mode & FOR_OTHERS) !== 0) {
      return [
        note(
          `the identity key ${file} can be read by others (mode ${(mode & 0o777).toString(8)})`,
          `chmod 600 ${file}`,
        ),
      ]
    }
    return [ok(`the identity key ${file} is for its owner alone; keep a copy of it in a safe place`)]
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return [ok(`the identity key ${file} will be made at the first start`)]
    return [
      wrong(`the identity key ${file} cannot be read: ${messageOf(error)}`, 'give it to the user who runs the server'),
    ]
  }
}

const mayUse = (path: string, mode: number): Promise<boolean> =>
  access(path, mode).then(
    () => true,
    () => false,
  )
