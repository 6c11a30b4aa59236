// Publishes the events of an export file into an account, in their order and under the names of their streams, with their
// types, times and bodies. How far it came is stored with each event that is queued, so an import that was interrupted
// goes on where it stopped and publishes nothing twice.

import { toHex } from '@valise/protocol'
import type { Client } from '../client.ts'
import type { Clock } from '../clock.ts'
import { isOwnStream } from '../publish/own-streams.ts'
import { PublishError } from '../publish/publish-error.ts'
import { bodyOf } from './check-export.ts'
import { type ExportedEvent, parseExportLine } from './export-lines.ts'

export interface ImportParts {
  readonly client: Client
  /** By which a lifetime has ended: the server's time, as far as it is known. */
  readonly clock: Pick<Clock, 'now'>
  /** How far an import of this file has come, by the name it is stored under. */
  readonly positionName: string
  readonly done: number
  readonly signal: AbortSignal
}

export interface ImportCounts {
  /** Queued now. */
  readonly published: number
  /** Queued by an earlier import of the same file. */
  readonly before: number
  /** Their lifetime is over. */
  readonly expired: number
  /** Of streams that the exporting device knew by their id only: published under that id, in hexadecimal. */
  readonly unnamed: number
  /** Larger than this server takes: left out. */
  readonly tooLarge: number
}

const MAX_IN_FLIGHT = 128

export const importPositionName = (exportId: Uint8Array): string => `import ${toHex(exportId)}`

/** Of a file that `checkExport` found sound. Rejects as `publish` does, when what was queued before is durable. */
export async function importEvents(parts: ImportParts, lines: AsyncIterable<string>): Promise<ImportCounts> {
  const { client, clock, positionName, done, signal } = parts
  const counts = { published: 0, before: 0, expired: 0, unnamed: 0, tooLarge: 0 }
  let lineNumber = 0
  let inFlight: Promise<unknown>[] = []
  let failure: { readonly error: unknown } | undefined
  const settle = async (): Promise<void> => {
    await Promise.all(inFlight)
    inFlight = []
    if (failure !== undefined) throw failure.error
  }

  const publish = (event: ExportedEvent, content: NonNullable<ExportedEvent['content']>, ttlS: number): void => {
    if (event.stream === null) counts.unnamed += 1
    const options = { ttlS, atMs: content.at, position: { name: positionName, userSeq: event.user_seq }, signal }
    const streamName = event.stream ?? toHex(event.stream_id)
    const publishing = client
      .publish(streamName, { type: content.type, body: bodyOf(content) }, options)
      .catch((error: unknown) => {
        if (!(error instanceof PublishError) || error.code !== 'payload_too_large') failure ??= { error }
        else counts.tooLarge += 1
      })
    inFlight.push(publishing)
  }

  for await (const text of lines) {
    lineNumber += 1
    const line = parseExportLine(text, lineNumber)
    if (line.type === 'expired') counts.expired += 1
    if (line.type !== 'event' || line.content === null || isOwnStream(line.stream ?? '')) continue
    if (line.user_seq <= done) {
      counts.before += 1
      continue
    }
    const leftMs = line.stored_at + line.ttl_s * 1000 - clock.now()
    if (line.ttl_s > 0 && leftMs <= 0) {
      counts.expired += 1
      continue
    }
    publish(line, line.content, Math.min(line.ttl_s, Math.max(0, Math.ceil(leftMs / 1000))))
    counts.published += 1
    if (inFlight.length >= MAX_IN_FLIGHT) await settle()
  }
  await settle()
  return { ...counts, published: counts.published - counts.tooLarge }
}
