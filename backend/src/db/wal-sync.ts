// Puts the files of the embedded database on the disk. PGlite writes through Node but its fsync does nothing, so before
// a commit is acknowledged Node syncs the segments of the write-ahead log itself. That covers the log, not a
// checkpoint's data pages: through a power cut, only a PostgreSQL server keeps the promise in full.

import { type FileHandle, open, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'

export interface WalSync {
  /** Resolves when all that stood in the log before the call is on the disk. One call at a time. */
  sync(): Promise<void>
  close(): Promise<void>
}

const SEGMENT_NAME = /^[0-9A-F]{24}$/

export function createWalSync(clusterDir: string): WalSync {
  const folder = join(clusterDir, 'pg_wal')
  const segmentByName = new Map<string, { file: FileHandle; inode: number }>()
  /** After a failed sync the kernel may report later ones as done without the lost bytes: nothing is promised any more. */
  let failure: Error | undefined

  const forget = async (name: string): Promise<void> => {
    const segment = segmentByName.get(name)
    segmentByName.delete(name)
    await segment?.file.close()
  }

  /** A used segment is renamed to a future one, so a name alone does not say which file it is. */
  const openSegment = async (name: string): Promise<FileHandle> => {
    const path = join(folder, name)
    const { ino } = await stat(path)
    const known = segmentByName.get(name)
    if (known?.inode === ino) return known.file
    await forget(name)
    const file = await open(path, 'r+')
    segmentByName.set(name, { file, inode: ino })
    await syncPath(folder)
    return file
  }

  const syncSegments = async (): Promise<void> => {
    const names = (await readdir(folder)).filter((name) => SEGMENT_NAME.test(name))
    for (const name of segmentByName.keys()) if (!names.includes(name)) await forget(name)
    // A segment without new bytes costs next to nothing.
    await Promise.all(names.map(async (name) => (await openSegment(name)).datasync()))
  }

  return {
    sync: async () => {
      if (failure !== undefined) throw failure
      try {
        await syncSegments()
      } catch (error) {
        failure = new Error(
          'the log of the embedded database could not be written to the disk: start the server anew',
          {
            cause: error,
          },
        )
        throw failure
      }
    },
    close: async () => {
      for (const name of [...segmentByName.keys()]) await forget(name)
    },
  }
}

/** Every file and folder of a cluster that was just made. */
export async function syncTree(folder: string): Promise<void> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  await Promise.all(entries.map((entry) => syncPath(join(entry.parentPath, entry.name))))
  await syncPath(folder)
}

export async function syncPath(path: string): Promise<void> {
  const handle = await open(path, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
