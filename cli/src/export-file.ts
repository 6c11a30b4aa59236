// An export as a file: written beside its place and named when it is whole and on the disk, for its owner alone; read line
// by line within a bound.

import { randomBytes } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { link, lstat, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Readable } from 'node:stream'
import { ExportFileError, MAX_EXPORT_LINE_BYTES } from '@valise/client/node'
import { decodeUtf8 } from '@valise/protocol'
import { MisuseError } from './failure.ts'

const FLUSH_BYTES = 1024 * 1024
const NEWLINE = 0x0a

const fileExists = (path: string): MisuseError =>
  new MisuseError('file_exists', `${path} is there already. Expected another name, or --force to replace it.`)

export async function refuseExisting(path: string): Promise<void> {
  const isThere = await lstat(path).then(
    () => true,
    () => false,
  )
  if (isThere) throw fileExists(path)
}

/** Mode 0600. Nothing is left under either name when the lines fail. Returns bytes written. */
export async function writeLines(path: string, lines: AsyncIterable<string>, mayReplace: boolean): Promise<number> {
  const draft = `${path}.${randomBytes(6).toString('hex')}.part`
  const file = await open(draft, 'wx', 0o600).catch((error: unknown) => {
    throw new MisuseError('bad_file', `${path} cannot be written (${reasonOf(error)}).`, { cause: error })
  })
  let bytes = 0
  try {
    try {
      let waiting: string[] = []
      let waitingBytes = 0
      const flush = async (): Promise<void> => {
        await file.writeFile(waiting.join(''))
        waiting = []
        waitingBytes = 0
      }
      for await (const line of lines) {
        const length = Buffer.byteLength(line) + 1
        waiting.push(`${line}\n`)
        waitingBytes += length
        bytes += length
        if (waitingBytes >= FLUSH_BYTES) await flush()
      }
      await flush()
      await file.sync()
    } finally {
      await file.close()
    }
    if (mayReplace) await rename(draft, path)
    else {
      // A link never replaces what came there meanwhile.
      await link(draft, path).catch((error: unknown) => {
        throw reasonOf(error) === 'EEXIST' ? fileExists(path) : error
      })
    }
    await syncFolder(dirname(path))
    return bytes
  } finally {
    await rm(draft, { force: true })
  }
}

/** Throws a MisuseError for what cannot be read, an ExportFileError for a line that is no text or too long. */
export async function* readLines(path: string, stdin: Readable): AsyncGenerator<string> {
  const source: AsyncIterable<Buffer> = path === '-' ? stdin : createReadStream(path)
  let pieces: Buffer[] = []
  let length = 0
  let lineNumber = 0
  const take = (): string => {
    lineNumber += 1
    const text = decodeUtf8(Buffer.concat(pieces))
    pieces = []
    length = 0
    if (text === undefined) throw new ExportFileError(lineNumber, 'not UTF-8')
    return text
  }
  const add = (piece: Buffer): void => {
    length += piece.length
    if (length > MAX_EXPORT_LINE_BYTES) {
      throw new ExportFileError(lineNumber + 1, `longer than ${MAX_EXPORT_LINE_BYTES} bytes; no export has such a line`)
    }
    pieces.push(piece)
  }
  try {
    for await (const chunk of source) {
      let at = 0
      for (let end = chunk.indexOf(NEWLINE, at); end >= 0; end = chunk.indexOf(NEWLINE, at)) {
        add(chunk.subarray(at, end))
        at = end + 1
        yield take()
      }
      if (at < chunk.length) add(chunk.subarray(at))
    }
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error) || !('syscall' in error)) throw error
    throw new MisuseError('bad_file', `${path} cannot be read (${reasonOf(error)}). Expected the file of an export.`, {
      cause: error,
    })
  }
  if (length > 0) yield take()
}

const reasonOf = (error: unknown): string =>
  error instanceof Error && 'code' in error ? String(error.code) : 'unknown'

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}
