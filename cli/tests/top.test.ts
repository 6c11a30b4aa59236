// What `valise top` draws: whole in any width, the newest second on the right edge, and what went wrong on a narrow
// terminal too.

import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { stripVTControlCharacters } from 'node:util'
import type { Status } from '@valise/backend'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { renderTop } from '../src/operator/top-screen.ts'
import { within } from './support/deadline.ts'
import { startServer } from './support/server.ts'
import { createTerminal } from './support/terminal.ts'
import { cleanUp, lastJson, makeFolder, runValise } from './support/valise.ts'

const program = join(import.meta.dirname, '../bin/valise.js')
const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})
afterAll(cleanUp)

async function startQuietServer(): Promise<string> {
  const server = await startServer(makeFolder())
  undo.push(server.kill)
  return server.adminUrl
}

/** What a server says that has much to tell: figures as wide as they get, and errors of every kind. */
async function readBusyStatus(): Promise<Status> {
  const snapshot = await runValise(['top', '--json', '--admin-url', await startQuietServer()])
  const status = lastJson(snapshot.stdout) as unknown as Status
  const { now, recent, total, series, seconds } = status
  const filled = <Fields extends object>(fields: Fields, value: unknown): Fields =>
    Object.fromEntries(Object.keys(fields).map((name) => [name, value])) as Fields
  const kinds = ['handshake', 'event', 'close', 'limit', 'query'] as const
  return {
    ...status,
    readiness: { is_ready: true, problems: [], notes: ['n'.repeat(300)] },
    now: filled(now, 29_999),
    recent: filled(recent, 1_234_567),
    total: filled(total, 123_456_789),
    seconds: Array.from({ length: 300 }, (_, index) => (seconds[0] ?? 0) + index * 1000),
    series: filled(series, [...new Array(299).fill(1), 8]),
    errors: kinds.map((kind) => ({
      kind,
      code: 'session_rotation_required',
      text: 't'.repeat(200),
      recent: 123,
      total: 456_789,
      last_ms: status.now_ms - 3_600_000,
    })),
  }
}

describe('what top draws', () => {
  it('SEE-8: no line is wider than the terminal, and none is lost', async () => {
    const status = await readBusyStatus()
    for (const hasColour of [true, false]) {
      for (const columns of [20, 30, 40, 50, 51, 66, 79, 80, 100, 300]) {
        const lines = renderTop({ type: 'live', status }, { columns, rows: 60, hasColour })
        const texts = lines.map(stripVTControlCharacters)
        expect(Math.max(...texts.map((text) => text.length)), `${columns} columns`).toBeLessThanOrEqual(columns)
        expect(
          texts.filter((text) => text.startsWith('memory')),
          `${columns} columns`,
        ).toHaveLength(1)
      }
    }
  })

  it('SEE-8: the newest second stands at the right edge', async () => {
    const status = await readBusyStatus()
    for (const columns of [50, 80, 200]) {
      const lines = renderTop({ type: 'live', status }, { columns, rows: 60, hasColour: false })
      const memory = lines.find((line) => line.startsWith('memory')) ?? ''
      expect(memory).toHaveLength(columns)
      expect(memory).toMatch(/ ▁+█$/)
    }
  })

  it('SEE-8: what went wrong is told by code, number and time on a narrow terminal, and by all of it on a wide one', async () => {
    const status = await readBusyStatus()
    const draw = (columns: number): string =>
      renderTop({ type: 'live', status }, { columns, rows: 60, hasColour: false }).join('\n')
    expect(draw(50)).toMatch(/^session_rotation_required +123 {2}1 h 0 min ago *$/m)
    expect(draw(120)).toMatch(/^limit session_rotation_required +123 +456,789 {2}1 h 0 min ago +t+…$/m)
  })

  it('SEE-8: a real terminal shows all of it, up to its last column', async () => {
    const [columns, rows] = [60, 20]
    const adminUrl = await startQuietServer()
    const command = `stty cols ${columns} rows ${rows}; exec ${process.execPath} ${program} top --admin-url ${adminUrl}`
    // util-linux's script gives it a terminal of its own.
    const child = spawn('script', ['-qec', command, '/dev/null'], { env: { ...process.env, TERM: 'xterm' } })
    undo.push(async () => child.kill('SIGKILL'))
    const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
    const terminal = createTerminal(columns, rows)
    child.stdout.setEncoding('utf8')
    const memory = (): string => terminal.rows.find((row) => row.startsWith('memory')) ?? ''
    const drawn = new Promise<void>((resolve) => {
      child.stdout.on('data', (text: string) => {
        terminal.write(text)
        if (/[▁-█]{2,}/.test(memory())) resolve()
      })
    })
    await within(40_000, 'two seconds of memory', drawn)
    expect(memory()).toMatch(/[▁-█]{2}$/)
    expect(terminal.rows[0]).toMatch(/^Valise {2}ready/)
    expect(terminal.rows[1]).toMatch(/…$/)
    child.stdin.write('q')
    expect(await within(20_000, 'its end', ended)).toBe(0)
  })
})
