// Where a run of the tests keeps its files. Nothing of it outlives the run and no test cuts the power, so they may stand
// in memory, where a sync costs nothing: a process that is killed finds in there what it would find on a disk.
import { accessSync, chmodSync, constants, mkdtempSync, rmSync, statfsSync } from 'node:fs'
import { freemem, tmpdir } from 'node:os'
import { join } from 'node:path'

const memoryFolder = '/dev/shm'
const tmpfsType = 0x01021994
/** Several times what a run has been seen to take. */
const neededBytes = 6 * 2 ** 30

/** Makes the folder of this run and the folder for temporary files of this process and its children: { folder, close }. */
export function openRunFolder() {
  const folder = mkdtempSync(join(hasRoomInMemory() ? memoryFolder : tmpdir(), 'valise-tests-'))
  // A PostgreSQL under another user's name has its folder in here.
  chmodSync(folder, 0o711)
  process.env['TMPDIR'] = folder
  return { folder, close: () => rmSync(folder, { recursive: true, force: true }) }
}

/** Who names a folder for temporary files gets them there. */
function hasRoomInMemory() {
  if (process.env['TMPDIR']) return false
  try {
    accessSync(memoryFolder, constants.W_OK)
    const { type, bavail, bsize } = statfsSync(memoryFolder)
    return type === tmpfsType && Math.min(bavail * bsize, freemem(), memoryLimit()) >= neededBytes
  } catch {
    return false
  }
}

/** In bytes, of the container around us. */
function memoryLimit() {
  return process.constrainedMemory() || Number.POSITIVE_INFINITY
}
