// A node of a server as a real process, which can be told to stop, and killed. Whatever is left ends with the test run.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { RawConfig } from '../../src/config.ts'

export interface NodeProcess {
  readonly pid: number
  readonly url: string
  readonly adminUrl: string
  readonly port: number
  readonly fingerprint: Uint8Array
  /** Sends the signal; `exited` says what came of it. */
  signal(signal: NodeJS.Signals): void
  /** The exit code, or null when it was killed. */
  readonly exited: Promise<number | null>
}

const program = fileURLToPath(new URL('./serve-node.mjs', import.meta.url))

/** One address stands for all users, and the disk is as full as it is. */
const ONE_MACHINE: RawConfig = {
  VALISE_REGISTRATIONS_PER_HOUR: '0',
  VALISE_NODE_REGISTRATIONS_PER_MIN: '0',
  VALISE_STORAGE_LOW_BYTES: '0',
  VALISE_STORAGE_CRITICAL_BYTES: '0',
}

/** How a program is started: in another place than this one, perhaps, and as somebody else. */
export interface Program {
  readonly command: string
  readonly args: readonly string[]
  readonly uid?: number
  readonly gid?: number
}

/**
 * Resolves when it listens. Its log goes where the tests' own words go, unless somebody takes its lines. `nodeFlags` are
 * those of Node itself; `place` says where the program is started.
 */
export async function startNodeProcess(
  flags: RawConfig,
  onLogLine?: (line: string) => void,
  nodeFlags: readonly string[] = [],
  place: (program: Program) => Program = (started) => started,
): Promise<NodeProcess> {
  const { command, args, ...identity } = place({
    command: process.execPath,
    args: [...nodeFlags, program, JSON.stringify({ ...ONE_MACHINE, ...flags })],
  })
  const child: ChildProcess = spawn(command, args, {
    stdio: ['ignore', 'pipe', onLogLine === undefined ? 'inherit' : 'pipe'],
    ...identity,
  })
  const endWithProcess = () => child.kill('SIGKILL')
  process.once('exit', endWithProcess)
  const exited = once(child, 'close').then(([code]) => {
    process.off('exit', endWithProcess)
    return typeof code === 'number' ? code : null
  })
  if (child.stdout === null) throw new Error('a node has no standard output')
  if (child.stderr !== null && onLogLine !== undefined) createInterface(child.stderr).on('line', onLogLine)
  const lines = createInterface(child.stdout)
  const greeting = await Promise.race([
    once(lines, 'line'),
    exited.then((code) => Promise.reject(new Error(`${code}`))),
  ])
  const { url, admin_url: adminUrl, fingerprint } = JSON.parse(String(greeting[0]))
  if (child.pid === undefined) throw new Error('a node that greets has no process id')
  return {
    pid: child.pid,
    url,
    adminUrl,
    port: Number(new URL(url).port),
    fingerprint: Buffer.from(fingerprint, 'base64url'),
    signal: (signal) => void child.kill(signal),
    exited,
  }
}
