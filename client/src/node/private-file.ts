// The files and folders of a device's home: made for their owner alone, and refused when another user of the machine
// could read or replace them (OPS-2). They are not mended here: somebody may have read them already.

import { mkdir, open, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { judgePrivate, type PrivateFault } from '@valise/protocol'
import { DeviceHomeError } from './device-home-error.ts'

/** Made when it is not there, mode 0700. Rejects with a `DeviceHomeError`. */
export async function makePrivateFolder(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 })
    refuse(judgePrivate(path, 'folder', await stat(path), me()))
  } catch (cause) {
    if (cause instanceof DeviceHomeError) throw cause
    const reason = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown'
    throw new DeviceHomeError('unusable', `${path} cannot be the home of a device (${reason}).`, { cause })
  }
}

/** Undefined when it is not there. Rejects with a `DeviceHomeError`. */
export async function readPrivateFile(path: string): Promise<Uint8Array | undefined> {
  const file = await open(path, 'r').catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
    throw error
  })
  if (file === undefined) return undefined
  try {
    // What is judged is what is read, whatever the name leads to a moment later.
    refuse(judgePrivate(path, 'file', await file.stat(), me()))
    refuse(judgePrivate(dirname(path), 'parent', await stat(dirname(path)), me()))
    return new Uint8Array(await file.readFile())
  } finally {
    await file.close()
  }
}

function refuse(fault: PrivateFault | undefined): void {
  if (fault === undefined) return
  throw new DeviceHomeError('unsafe_permissions', `${fault.problem}. Mend it: ${fault.remedy}`)
}

const me = (): number | undefined => process.getuid?.()
