// The storage key of a device: 32 random bytes in a file that only its owner can read, made on first use.
// A file that others can read is refused, not repaired: somebody may have read it.

import { randomBytes } from 'node:crypto'
import { open, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { STORAGE_KEY_BYTES } from '../store/at-rest.ts'
import { DeviceHomeError } from './device-home-error.ts'
import { readPrivateFile } from './private-file.ts'

export async function openKeyFile(path: string): Promise<Uint8Array> {
  const created = await createKeyFile(path)
  if (created !== undefined) return created
  const key = await readPrivateFile(path)
  if (key?.length !== STORAGE_KEY_BYTES) {
    throw new DeviceHomeError('damaged', "The device's key file does not hold 32 bytes.")
  }
  return key
}

/** `undefined` when the file is there already. */
async function createKeyFile(path: string): Promise<Uint8Array | undefined> {
  const file = await open(path, 'wx', 0o600).catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return undefined
    throw error
  })
  if (file === undefined) return undefined
  const key = randomBytes(STORAGE_KEY_BYTES)
  try {
    await file.writeFile(key)
    await file.sync()
  } finally {
    await file.close()
  }
  await syncFolder(dirname(path))
  return new Uint8Array(key)
}

/**
 * What was sealed under the key opens no more, wherever copies of it still lie on the disk: a store that deletes a record
 * may keep its bytes for a while.
 */
export async function destroyKeyFile(path: string): Promise<void> {
  const file = await open(path, 'r+').catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  })
  if (file === undefined) return
  try {
    await file.write(randomBytes(STORAGE_KEY_BYTES), 0, STORAGE_KEY_BYTES, 0)
    await file.sync()
  } finally {
    await file.close()
  }
  await unlink(path)
  await syncFolder(dirname(path))
}

/** The name of a new file is durable only once its folder is. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
