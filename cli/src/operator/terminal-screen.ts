// A terminal that is drawn over and over: its other screen while it is used, and exactly as it was afterwards, however it
// ends. Knows when its size changes and which keys are pressed.

import type { ReadStream, WriteStream } from 'node:tty'

export interface TerminalScreen {
  readonly columns: number
  readonly rows: number
  /** Over what was there before; lines beyond the last row are left out. */
  draw(lines: readonly string[]): void
  /** Idempotent. */
  restore(): void
}

export interface TerminalEvents {
  onResize(): void
  onKey(key: string): void
}

const ENTER = '\u001b[?1049h\u001b[?25l'
const LEAVE = '\u001b[?25h\u001b[?1049l'
const HOME = '\u001b[H'
/** Before a line, not behind it: behind one that is full it would take the last column. */
const CLEAR_LINE = '\u001b[K'
/** Lines that are too long are cut, not wrapped, while it draws. */
const NO_WRAP = '\u001b[?7l'
const WRAP = '\u001b[?7h'

/** Of a terminal that does not tell its own, as under `script`. */
const FALLBACK = { columns: 80, rows: 24 } as const

export function openTerminalScreen(stdin: ReadStream, stdout: WriteStream, events: TerminalEvents): TerminalScreen {
  let isRestored = false
  const rows = (): number => stdout.rows || FALLBACK.rows
  const onData = (data: Buffer): void => {
    for (const key of data.toString('utf8')) events.onKey(key)
  }
  const restore = (): void => {
    if (isRestored) return
    isRestored = true
    stdin.off('data', onData)
    stdin.setRawMode(false)
    stdin.pause()
    stdout.off('resize', events.onResize)
    process.off('exit', restore)
    stdout.write(WRAP + LEAVE)
  }
  process.on('exit', restore)
  stdout.write(ENTER)
  stdin.setRawMode(true)
  stdin.on('data', onData)
  stdin.resume()
  stdout.on('resize', events.onResize)
  return {
    get columns() {
      return stdout.columns || FALLBACK.columns
    },
    get rows() {
      return rows()
    },
    draw: (lines) => {
      if (isRestored) return
      const shown = Array.from({ length: rows() }, (_, row) => CLEAR_LINE + (lines[row] ?? ''))
      stdout.write(NO_WRAP + HOME + shown.join('\r\n') + WRAP)
    },
    restore,
  }
}
