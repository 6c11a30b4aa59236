// The store of a device on Node: LevelDB in a folder only its owner can read. A batch resolves after it reached the
// disk. The folder is locked: a second process that opens it is told so.

import { ClassicLevel } from 'classic-level'
import { createLevelStore } from '../store/level-store.ts'
import type { Store } from '../store/store.ts'
import { DeviceHomeError } from './device-home-error.ts'
import { makePrivateFolder } from './private-file.ts'

export async function openFileStore(dir: string): Promise<Store> {
  await makePrivateFolder(dir)
  const level = new ClassicLevel<string, Uint8Array>(dir, { keyEncoding: 'utf8', valueEncoding: 'view' })
  try {
    await level.open()
  } catch (error) {
    throw isLocked(error)
      ? new DeviceHomeError('in_use', 'Another valise process is using this home folder; end it first.', {
          cause: error,
        })
      : new DeviceHomeError('damaged', 'The store in this home folder cannot be opened.', { cause: error })
  }
  return {
    ...createLevelStore(level, (operations) => level.batch(operations, { sync: true })),
    compact: (first, last) => compact(level, first, last),
  }
}

/**
 * LevelDB drops a replaced value when a newer table is merged into the one that holds it. What was written and replaced
 * within one table stays in it, so a second, newer table is made over the same range: of deletions of keys that never were.
 */
async function compact(level: ClassicLevel<string, Uint8Array>, first: string, last: string): Promise<void> {
  const [below, above] = [first.slice(0, -1), `${last}!`]
  await level.compactRange(below, above)
  await level.batch([
    { type: 'del', key: below },
    { type: 'del', key: above },
  ])
  await level.compactRange(below, above)
}

function isLocked(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined
  return cause instanceof Error && 'code' in cause && cause.code === 'LEVEL_LOCKED'
}
