// The built command line as real processes: started, listened to, ended. Whatever a test leaves running is killed.
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { within } from './deadline.ts'

const program = join(import.meta.dirname, '../../bin/valise.js')
const DEADLINE_MS = 55_000

export interface Ended {
  readonly exitCode: number | null
  readonly stdout: Buffer
  readonly stderr: string
}

export interface Running {
  readonly pid: number
  readonly stdin: NodeJS.WritableStream
  readonly stdout: Buffer
  readonly stderr: string
  /** Resolves as soon as the condition holds for what the process has printed; rejects when it ends before. */
  until(what: string, condition: (printed: { stdout: Buffer; stderr: string }) => boolean): Promise<void>
  signal(signal: NodeJS.Signals): void
  /** Ctrl-C under npm or npx: the signal of the terminal, and the same passed on. */
  interrupt(): void
  /** Reads no more of its standard output, and lets it wait. */
  pauseStdout(): void
  /** Takes the process's standard output away, as `head` does when it has enough. */
  closeStdout(): void
  ended(): Promise<Ended>
}

export interface StartOptions {
  readonly home?: string
  /** Given whole and closed; without it standard input stays open for `stdin`. */
  readonly input?: string | Uint8Array
  readonly environment?: Readonly<Record<string, string>>
}

const running = new Set<ChildProcess>()
const folders: string[] = []

export function startValise(args: readonly string[], options: StartOptions = {}): Running {
  if (!existsSync(join(import.meta.dirname, '../../dist/main.js')))
    throw new Error('not built: run the tests by npm test')
  const home = options.home === undefined ? [] : ['--home', options.home]
  const child = spawn(process.execPath, [program, ...args, ...home], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'], HOME: '/nonexistent', ...options.environment },
  })
  running.add(child)
  const out: Buffer[] = []
  const err: Buffer[] = []
  let exit: { code: number | null } | undefined
  let wake: () => void = () => {}
  child.stdout.on('data', (chunk: Buffer) => {
    out.push(chunk)
    wake()
  })
  child.stderr.on('data', (chunk: Buffer) => {
    err.push(chunk)
    wake()
  })
  child.stdin.on('error', () => {})
  const closed = new Promise<void>((resolve) => {
    // A paused standard output never ends, so the end of the process counts, and what was printed until then.
    child.on('exit', () => child.stdout.isPaused() && child.stdout.destroy())
    child.on('close', (code) => {
      running.delete(child)
      exit = { code }
      wake()
      resolve()
    })
  })
  if (options.input !== undefined) child.stdin.end(options.input)

  const self: Running = {
    pid: child.pid!,
    stdin: child.stdin,
    get stdout() {
      return Buffer.concat(out)
    },
    get stderr() {
      return Buffer.concat(err).toString()
    },
    until: (what, condition) => {
      const reached = async (): Promise<void> => {
        while (!condition(self)) {
          if (exit !== undefined)
            throw new Error(`${what}: ended with ${exit.code} before\n${self.stdout}\n${self.stderr}`)
          await new Promise<void>((resolve) => {
            wake = resolve
          })
        }
      }
      return within(DEADLINE_MS, `${args.join(' ')}: ${what}`, reached())
    },
    signal: (signal) => void child.kill(signal),
    interrupt: () => {
      child.kill('SIGINT')
      child.kill('SIGINT')
    },
    pauseStdout: () => void child.stdout.pause(),
    closeStdout: () => child.stdout.destroy(),
    ended: async () => {
      await within(DEADLINE_MS, `${args.join(' ')} to end`, closed)
      return { exitCode: exit?.code ?? null, stdout: self.stdout, stderr: self.stderr }
    },
  }
  return self
}

/** Runs to the end, with an empty standard input unless one is given. */
export function runValise(args: readonly string[], options: StartOptions = {}): Promise<Ended> {
  return startValise(args, { input: '', ...options }).ended()
}

/** The last JSON object that was printed. */
export function lastJson(stdout: Buffer): Record<string, unknown> {
  const line = stdout.toString().trimEnd().split('\n').at(-1)
  return JSON.parse(line ?? '')
}

export const jsonLines = (stdout: Buffer): Record<string, unknown>[] =>
  stdout
    .toString()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))

/** An empty folder, removed by `cleanUp`. */
export function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'valise-cli-'))
  folders.push(folder)
  return folder
}

/** For afterAll: kills what still runs and removes the folders. */
export async function cleanUp(): Promise<void> {
  const leftOver = [...running]
  const gone = leftOver.map((child) => new Promise((resolve) => child.on('close', resolve)))
  for (const child of leftOver) child.kill('SIGKILL')
  await Promise.all(gone)
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
}
