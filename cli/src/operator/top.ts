// `valise top`: the numbers of a running server's status page, in a terminal, each second, until `q` or Ctrl-C. Without
// a terminal, or with --once, one snapshot; with --json the status itself.

import { ReadStream, WriteStream } from 'node:tty'
import type { Status } from '@valise/backend'
import { EXIT, MisuseError } from '../failure.ts'
import { watchInterruption } from '../interruption.ts'
import type { AddCommand } from '../invocation.ts'
import type { Output } from '../output.ts'
import { openTerminalScreen } from './terminal-screen.ts'
import { renderTop, type TopState } from './top-screen.ts'

interface TopOptions {
  readonly adminUrl?: string
  readonly once?: true
}

const INTERVAL_MS = 1000
const TIMEOUT_MS = 3000
const MAX_STATUS_BYTES = 1024 * 1024
const SNAPSHOT = { columns: 100, rows: 60, hasColour: false }

export const addTop: AddCommand = (program, run) => {
  program
    .command('top')
    .description('show what a running server does, each second; q ends it')
    .option('--admin-url <url>', 'its admin port (default: ADMIN_HOST and ADMIN_PORT, else http://127.0.0.1:8788)')
    .option('--once', 'print one snapshot and end')
    .action(
      run(async ({ output, stdin }, options: TopOptions) => {
        const readStatus = await createStatusReader(options.adminUrl)
        const { stdout } = process
        const hasTerminal = stdin instanceof ReadStream && stdout instanceof WriteStream
        if (options.once === true || output.isJson || !hasTerminal) return printOnce(output, readStatus)
        return showUntilEnded(stdin, stdout, readStatus, watchInterruption(output))
      }),
    )
}

type ReadStatus = (signal?: AbortSignal) => Promise<Status>

/** Rejects, when asked, with a sentence for a person. */
async function createStatusReader(adminUrl: string | undefined): Promise<ReadStatus> {
  const { parseConfig, adminUrlOf, parseStatus } = await import('@valise/backend')
  const base = adminUrl ?? adminUrlOf(parseConfig({}))
  if (!/^https?:\/\/./.test(base) || !URL.canParse(base)) {
    throw new MisuseError('bad_admin_url', 'Expected --admin-url http://HOST:PORT, as the server prints it.')
  }
  const url = new URL('status.json', base.endsWith('/') ? base : `${base}/`)
  return async (signal) => {
    const deadline = AbortSignal.timeout(TIMEOUT_MS)
    const response = await fetch(url, {
      redirect: 'error',
      signal: signal === undefined ? deadline : AbortSignal.any([signal, deadline]),
    }).catch((cause: unknown) => {
      throw new Error(`nothing answers at ${base}; is the server running, and is this its admin port?`, { cause })
    })
    const text = await response.text()
    if (response.status === 403 && text.includes('"unknown_host"')) {
      throw new Error(`the server does not go by that name: ask by its address, or list the name in VALISE_ADMIN_NAMES`)
    }
    const status = response.ok && text.length <= MAX_STATUS_BYTES ? parseStatus(parseJson(text)) : undefined
    if (status === undefined) throw new Error(`what answers at ${base} is no admin port of this version of Valise`)
    return status
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

async function printOnce(output: Output, readStatus: ReadStatus): Promise<number> {
  const status = await readStatus()
  output.result(renderTop({ type: 'live', status }, SNAPSHOT).join('\n'), status)
  return EXIT.success
}

/** Resolves when the terminal is as it was before. */
async function showUntilEnded(
  stdin: ReadStream,
  stdout: WriteStream,
  readStatus: ReadStatus,
  interrupted: AbortSignal,
): Promise<number> {
  const ending = new AbortController()
  const end = (): void => ending.abort()
  interrupted.addEventListener('abort', end)
  let latest: { readonly status: Status; readonly atMs: number } | undefined
  let state: TopState | undefined
  const draw = (): void => {
    if (state === undefined) return
    const { columns, rows } = screen
    screen.draw(renderTop(state, { columns, rows, hasColour: stdout.hasColors() }))
  }
  const screen = openTerminalScreen(stdin, stdout, {
    onResize: draw,
    onKey: (key) => {
      if (key === 'q' || key === 'Q' || key === '\u0003' || key === '\u0004') end()
    },
  })
  try {
    while (!ending.signal.aborted) {
      try {
        const status = await readStatus(ending.signal)
        latest = { status, atMs: performance.now() }
        state = { type: 'live', status }
      } catch (error) {
        state = {
          type: 'away',
          status: latest?.status,
          forMs: latest === undefined ? 0 : performance.now() - latest.atMs,
          reason: error instanceof Error ? error.message : 'unknown',
        }
      }
      if (!ending.signal.aborted) draw()
      await pause(INTERVAL_MS, ending.signal)
    }
  } finally {
    screen.restore()
  }
  return EXIT.success
}

function pause(durationMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const done = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, durationMs)
    signal.addEventListener('abort', done)
  })
}
