// Reads what only the server's own user may read: a file of another user, or one that others can read or replace, is
// refused with the command that mends it (OPS-2). It is not mended here: somebody may have read it already.

import { lstat, open, realpath, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { judgePrivate, type PrivateFault } from '@valise/protocol'

/** The message says what is wrong and which command mends it. */
export class PrivateFileError extends Error {
  override readonly name = 'PrivateFileError'
}

/** Text of the file; undefined when it is not there. Rejects with a `PrivateFileError`. */
export async function readPrivateFile(path: string): Promise<string | undefined> {
  const file = await open(path, 'r').catch(absent)
  if (file === undefined) return undefined
  try {
    // What is judged is what is read, whatever the name leads to a moment later.
    const facts = await file.stat()
    const fault = facts.isFile() ? judgePrivate(path, 'file', facts, me()) : notAFile(path)
    refuse(fault ?? (await findPlaceFault(path)))
    return await file.readFile('utf8')
  } finally {
    await file.close()
  }
}

/** For a file whose bytes nobody needs here; undefined also when it is not there. */
export async function findFileFault(path: string): Promise<PrivateFault | undefined> {
  const facts = await stat(path).catch(absent)
  if (facts === undefined) return undefined
  const fault = facts.isFile() ? judgePrivate(path, 'file', facts, me()) : notAFile(path)
  return fault ?? (await findPlaceFault(path))
}

/** Of a folder and of the one that it stands in. */
export async function findFolderFault(path: string): Promise<PrivateFault | undefined> {
  const facts = await stat(path).catch(absent)
  return facts === undefined ? undefined : (judgePrivate(path, 'folder', facts, me()) ?? (await findPlaceFault(path)))
}

/** Rejects with a `PrivateFileError`. */
export const checkPrivateFolder = async (path: string): Promise<void> => refuse(await findFolderFault(path))

/** A link is judged by its owner, and the folders of the name and of the file by who may write in them. */
async function findPlaceFault(path: string): Promise<PrivateFault | undefined> {
  const named = await lstat(path)
  const inFolder = async (file: string) => judgePrivate(dirname(file), 'parent', await stat(dirname(file)), me())
  if (!named.isSymbolicLink()) return inFolder(path)
  // A link has no mode of its own.
  const link = judgePrivate(path, 'parent', { uid: named.uid, mode: 0 }, me())
  return link ?? (await inFolder(path)) ?? inFolder(await realpath(path))
}

function refuse(fault: PrivateFault | undefined): void {
  if (fault !== undefined) throw new PrivateFileError(`${fault.problem}. Mend it: ${fault.remedy}`)
}

const notAFile = (path: string): PrivateFault => ({
  problem: `${path} is not a regular file`,
  remedy: 'name a file that is',
})

const me = (): number | undefined => process.getuid?.()

function absent(error: unknown): undefined {
  if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
  throw error
}
