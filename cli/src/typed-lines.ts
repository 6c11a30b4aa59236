// Lines that a person types, or a pipe delivers, one at a time; what came after a line is kept for the next. A hidden line
// is read without the terminal's echo.

import type { Readable } from 'node:stream'
import { StringDecoder } from 'node:string_decoder'

export interface TypedInput extends Readable {
  readonly isTTY?: boolean
  setRawMode?(isRaw: boolean): unknown
}

export interface TypedLines {
  /** Undefined when the input ended, or the signal came. */
  next(options: {
    readonly isHidden: boolean
    readonly signal: AbortSignal
    /** Asks for it: called when the echo is off, so that nothing typed in answer is seen. */
    ask(): void
  }): Promise<string | undefined>
}

/** A line longer than this is none that anybody typed. */
const MAX_LINE_CHARACTERS = 4096
const CTRL_C = '\u0003'
const CTRL_D = '\u0004'
const CTRL_U = '\u0015'
const BACKSPACES: ReadonlySet<string> = new Set(['\u007f', '\b'])

/** `onInterrupt` is told of a Ctrl-C in a hidden line, of which the terminal makes no signal. */
export function createTypedLines(stdin: TypedInput, onInterrupt: () => void): TypedLines {
  const decoder = new StringDecoder('utf8')
  let rest = ''
  let hasEnded = false

  return {
    next: ({ isHidden, signal, ask }) =>
      new Promise((resolve, reject) => {
        const isRaw = isHidden && stdin.isTTY === true && stdin.setRawMode !== undefined
        let line = ''
        let restoreMode = (): void => {}

        const settle = (result: string | undefined): void => {
          stdin.off('data', onData)
          stdin.off('end', onEnd)
          stdin.off('error', onError)
          signal.removeEventListener('abort', onAbort)
          stdin.pause()
          restoreMode()
          resolve(result)
        }
        /** True when the line is over. */
        const take = (): boolean => {
          for (const [index, character] of [...rest].entries()) {
            const after = (): void => {
              rest = [...rest].slice(index + 1).join('')
            }
            if (character === '\n' || (isRaw && character === '\r')) {
              after()
              settle(line.replace(/\r$/, ''))
              return true
            }
            if (isRaw && (character === CTRL_C || character === CTRL_D)) {
              after()
              settle(undefined)
              if (character === CTRL_C) onInterrupt()
              return true
            }
            if (isRaw && character === CTRL_U) line = ''
            else if (isRaw && BACKSPACES.has(character)) line = [...line].slice(0, -1).join('')
            else if (line.length < MAX_LINE_CHARACTERS) line += character
          }
          rest = ''
          return false
        }
        const onData = (chunk: Buffer | string): void => {
          rest += typeof chunk === 'string' ? chunk : decoder.write(chunk)
          take()
        }
        const onEnd = (): void => {
          hasEnded = true
          settle(line === '' ? undefined : line)
        }
        const onError = (error: Error): void => {
          settle(undefined)
          reject(error)
        }
        const onAbort = (): void => settle(undefined)

        if (signal.aborted) return resolve(undefined)
        if (isRaw) {
          stdin.setRawMode?.(true)
          restoreMode = () => void stdin.setRawMode?.(false)
        }
        ask()
        if (take()) return
        if (hasEnded || stdin.readableEnded) return settle(line === '' ? undefined : line)
        stdin.on('data', onData)
        stdin.on('end', onEnd)
        stdin.on('error', onError)
        signal.addEventListener('abort', onAbort, { once: true })
        stdin.resume()
      }),
  }
}
