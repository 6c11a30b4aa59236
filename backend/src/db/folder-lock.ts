// One server a folder. The lock file names its holder (machine, process, start of the process), so that a lock left by a
// killed server is known as stale and taken over, also where every server is process 1 of its container. A holder that
// cannot be looked up from here (another machine or container) counts as alive while it keeps touching the file.

import { randomBytes } from 'node:crypto'
import {
  linkSync,
  readFileSync,
  readlinkSync,
  renameSync,
  statSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { hostname } from 'node:os'

/** Another server holds the folder; `message` says which and what to do. */
export class FolderLockedError extends Error {
  override readonly name = 'FolderLockedError'
}

export interface FolderLock {
  release(): void
}

interface Holder {
  /** Boot and process namespace: within one scope a process id means one process. */
  readonly scope: string
  readonly pid: number
  /** Clock ticks from boot to the start of the process; empty where it cannot be known. */
  readonly startedAt: string
  readonly token: string
}

const TOUCH_INTERVAL_MS = 5_000
const ABANDONED_AFTER_MS = 30_000

export function lockFolder(path: string): FolderLock {
  const token = randomBytes(8).toString('hex')
  const holder: Holder = { scope: readScope(), pid: process.pid, startedAt: readStart(process.pid), token }
  const draft = `${path}.${token}`
  writeFileSync(draft, JSON.stringify(holder), { mode: 0o600 })
  try {
    takeLock(path, draft)
  } finally {
    unlinkSync(draft)
  }
  const touching = setInterval(() => touch(path), TOUCH_INTERVAL_MS)
  touching.unref()
  return {
    release: () => {
      clearInterval(touching)
      if (readHolder(path)?.token === token) unlinkSync(path)
    },
  }
}

function takeLock(path: string, draft: string): void {
  for (let attempt = 0; attempt < 10; attempt++) {
    if (tryLink(draft, path)) return
    const holder = readHolder(path)
    if (holder === undefined) continue
    if (isAlive(holder, path)) {
      throw new FolderLockedError(
        `another server (process ${holder.pid}) uses this folder: stop it, or give this one another folder. ` +
          `If no server runs, remove ${path}`,
      )
    }
    removeStale(path, `${draft}.stale`, holder)
  }
  throw new FolderLockedError(`the lock ${path} could not be taken: other servers start in this folder at this moment`)
}

/** Two starts may find the same stale lock: whoever moved away a fresh one instead puts it back. */
function removeStale(path: string, aside: string, stale: Holder): void {
  try {
    renameSync(path, aside)
  } catch (error) {
    if (isMissing(error)) return
    throw error
  }
  if (readHolder(aside)?.token !== stale.token) tryLink(aside, path)
  unlinkSync(aside)
}

/** Atomic, and false when the name is taken. */
function tryLink(from: string, to: string): boolean {
  try {
    linkSync(from, to)
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false
    throw error
  }
}

function isAlive(holder: Holder, path: string): boolean {
  if (holder.scope !== readScope()) return Date.now() - modifiedAtMs(path) < ABANDONED_AFTER_MS
  try {
    process.kill(holder.pid, 0)
  } catch (error) {
    // EPERM: it runs, under another user.
    if (!(error instanceof Error && 'code' in error && error.code === 'EPERM')) return false
  }
  return readStart(holder.pid) === holder.startedAt
}

function readHolder(path: string): Holder | undefined {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
  // Written whole before it gets its name, so anything unreadable is not of this program.
  const { scope, pid, startedAt, token }: Record<string, unknown> = JSON.parse(text)
  if (
    typeof scope !== 'string' ||
    typeof pid !== 'number' ||
    typeof startedAt !== 'string' ||
    typeof token !== 'string'
  ) {
    throw new FolderLockedError(`${path} is not a lock of this program`)
  }
  return { scope, pid, startedAt, token }
}

function readScope(): string {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
    return `${boot} ${readlinkSync('/proc/self/ns/pid')}`
  } catch {
    return hostname()
  }
}

/** Field 22 of /proc/<pid>/stat (proc(5)); the second field, a name in parentheses, may hold spaces. */
function readStart(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? ''
  } catch {
    return ''
  }
}

function modifiedAtMs(path: string): number {
  try {
    return statSync(path).mtimeMs
  } catch {
    return 0
  }
}

function touch(path: string): void {
  const now = new Date()
  try {
    utimesSync(path, now, now)
  } catch {
    // Removed by hand, or a full disk: the next touch may succeed.
  }
}

const isMissing = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'ENOENT'
