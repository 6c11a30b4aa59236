// How the operator's commands reach a server that holds the embedded database, which no second process can open: the
// server writes its admin address and a token, new at each start, into a file of mode 0600 beside the database. Whoever
// can read the file can read the database too.

import { randomBytes } from 'node:crypto'
import { rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { PrivateFileError, readPrivateFile } from '../files/private-file.ts'

export interface AdminAccess {
  /** `http://HOST:PORT` of the admin port. */
  readonly url: string
  readonly token: string
}

const FILE = 'admin-access.json'
const TOKEN_BYTES = 32

const stored = z.strictObject({ url: z.url({ protocol: /^http$/ }), token: z.string().regex(/^[0-9a-f]{64}$/) })

/** The file cannot be used; the message says why and what to do. */
export class AdminAccessError extends Error {
  override readonly name = 'AdminAccessError'
}

export const createAdminToken = (): string => randomBytes(TOKEN_BYTES).toString('hex')

export interface AdminAccessFile {
  remove(): Promise<void>
}

/** Replaces what a killed server left. Whole, or not at all, whoever reads meanwhile. */
export async function writeAdminAccess(dataDir: string, access: AdminAccess): Promise<AdminAccessFile> {
  const path = join(dataDir, FILE)
  const draft = `${path}.${randomBytes(8).toString('hex')}`
  await writeFile(draft, `${JSON.stringify(access)}\n`, { mode: 0o600, flag: 'wx' })
  await rename(draft, path)
  return { remove: () => rm(path, { force: true }) }
}

/** Throws an AdminAccessError when there is none, when others could read it, or when it is something else. */
export async function readAdminAccess(dataDir: string): Promise<AdminAccess> {
  const path = join(dataDir, FILE)
  const text = await readPrivateFile(path).catch((error: unknown) => {
    if (!(error instanceof PrivateFileError)) throw unreadable(path, error)
    throw new AdminAccessError(`${error.message}, then start the server again, which makes a new token`, {
      cause: error,
    })
  })
  if (text === undefined) throw unreadable(path)
  const parsed = stored.safeParse(parseJson(text))
  if (!parsed.success) throw new AdminAccessError(`${path} is not what a server writes: start the server again`)
  return parsed.data
}

const unreadable = (path: string, cause?: unknown): AdminAccessError =>
  new AdminAccessError(
    `A server holds the embedded database, and ${path}, by which it is asked, cannot be read: run this as its user`,
    { cause },
  )

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
