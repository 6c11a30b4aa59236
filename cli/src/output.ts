// What the program says: results on standard output, notices and failures on standard error, each a text for people or
// one JSON object a line for machines. Knows when standard output has taken what it was given, and when its reader left.

import type { Writable } from 'node:stream'
import { visibleBytes, visibleJson, visibleLines } from './visible.ts'

/** What machines read. Keys are snake_case. */
export type JsonFields = Readonly<Record<string, unknown>>

export interface Output {
  readonly isJson: boolean
  /** A person reads results as they come, and colours can be shown. */
  readonly isTerminal: boolean
  /** A result. Machines get the fields. Texts are shown with escapes for what a terminal would obey, here and below. */
  result(text: string, fields: JsonFields): void
  /** A result that holds colours and nothing that others have said. */
  drawing(text: string, fields: JsonFields): void
  /** Something to know that is no result. */
  notice(code: string, text: string, fields?: JsonFields): void
  failure(code: string, text: string, fields?: JsonFields): void
  /** Bytes to standard output: exactly, unless it is a terminal, which gets escapes for what it would obey. True when the reader, or the pipe to it, has taken them; false when it is gone. */
  write(bytes: Uint8Array): Promise<boolean>
  /** Resolves when standard output has taken everything given so far, or its reader is gone. */
  drained(): Promise<void>
  /** Stops waiting for the reader: what it has not taken by now counts as not taken. */
  abandon(): void
}

export interface OutputParts {
  readonly stdout: Writable & { readonly isTTY?: boolean }
  readonly stderr: Writable
  readonly isJson: boolean
}

export function createOutput({ stdout, stderr, isJson }: OutputParts): Output {
  let isReaderGone = false
  let failure: Error | undefined
  let latest: Promise<unknown> = Promise.resolve()
  const waiting = new Set<(isTaken: boolean) => void>()
  // Without listeners a reader that went away would end the process from outside.
  stdout.on('error', () => {})
  stderr.on('error', () => {})

  const write = (data: string | Uint8Array): Promise<boolean> => {
    if (isReaderGone) return Promise.resolve(false)
    const written = new Promise<boolean>((resolve) => {
      waiting.add(resolve)
      stdout.write(data, (error) => {
        // Of a burst only the first error tells the cause; the rest fail because the stream is closed by then.
        if (error && !isReaderGone && !isGone(error)) {
          failure = new Error(`Standard output cannot be written: ${error.message}`)
        }
        if (error) isReaderGone = true
        waiting.delete(resolve)
        resolve(!error)
      })
    })
    latest = written
    return written
  }
  const complain = (kind: 'notice' | 'error', code: string, text: string, fields: JsonFields = {}): void => {
    stderr.write(`${isJson ? visibleJson({ [kind]: code, message: text, ...fields }) : visibleLines(text)}\n`)
  }
  const throwIfFailed = (): void => {
    if (failure !== undefined) throw failure
  }

  return {
    isJson,
    isTerminal: !isJson && stdout.isTTY === true,
    result: (text, fields) => void write(`${isJson ? visibleJson(fields) : visibleLines(text)}\n`),
    drawing: (text, fields) => void write(`${isJson ? visibleJson(fields) : text}\n`),
    notice: (code, text, fields) => complain('notice', code, text, fields),
    failure: (code, text, fields) => complain('error', code, text, fields),
    write: async (bytes) => {
      const isTaken = await write(stdout.isTTY === true ? visibleBytes(bytes) : bytes)
      throwIfFailed()
      return isTaken
    },
    drained: async () => {
      await latest
      throwIfFailed()
    },
    abandon: () => {
      isReaderGone = true
      for (const resolve of waiting) resolve(false)
      waiting.clear()
    },
  }
}

const isGone = (error: Error): boolean => 'code' in error && (error.code === 'EPIPE' || error.code === 'ECONNRESET')
