// The lines of an export file (docs/EXPORT.md): one JSON object a line, each with its type, in this order: header, the
// entries of the device log, the events, the end. Parsed strictly; a fault says which line and what was expected there.

import { fromBase64Url, fromHex, parseUuid } from '@valise/protocol'
import { z } from 'zod'

/** Longer than any line that `writeExport` makes: an event of the largest payload, sealed and open. */
export const MAX_EXPORT_LINE_BYTES = 4 * 1024 * 1024

const counter = z.int().min(0)
const u32 = z.int().min(0).max(0xffffffff)
const decoded = (form: string, decode: (text: string) => Uint8Array | undefined, length?: number) =>
  z.string().transform((text, context) => {
    const bytes = decode(text)
    if (bytes !== undefined && (length === undefined || bytes.length === length)) return bytes
    context.addIssue({ code: 'custom', message: `expected ${form}` })
    return z.NEVER
  })
const hex = (length: number) => decoded(`${2 * length} hexadecimal digits`, fromHex, length)
const uuid = decoded('a UUID', parseUuid)
const base64url = (length?: number) =>
  decoded(length === undefined ? 'base64url' : `base64url of ${length} bytes`, fromBase64Url, length)

const header = z.strictObject({
  type: z.literal('valise_export'),
  version: z.literal(2),
  /** Of this file: an import that was interrupted knows it again. */
  export_id: hex(16),
  exported_at: counter,
  user_id: hex(32),
  device_id: uuid,
})

const deviceLog = z.strictObject({ type: z.literal('device_log'), seq: counter, entry: base64url() })

const content = z.union([
  z.strictObject({ type: z.string(), at: counter, text: z.string() }),
  z.strictObject({ type: z.string(), at: counter, base64url: base64url() }),
])

const event = z.strictObject({
  type: z.literal('event'),
  user_seq: counter,
  stream_seq: counter,
  stored_at: counter,
  device_id: uuid,
  device_seq: counter,
  event_id: uuid,
  /** Null: a stream that the exporting device knows by its id only. */
  stream: z.string().nullable(),
  stream_id: hex(16),
  ttl_s: counter,
  /** Bytes of the body. */
  size: counter,
  /** Null: an empty event in the place of one that was refused. */
  content: content.nullable(),
  /** Opens this event, and no other. */
  key: base64url(32),
  wire: base64url(),
})

/** An event whose bytes were gone when the device came for it. */
const leaf = z.strictObject({
  type: z.literal('leaf'),
  user_seq: counter,
  stream_seq: counter,
  stored_at: counter,
  device_id: uuid,
  device_seq: counter,
  ttl_s: u32,
  flags: z.int().min(0).max(255),
  inner: hex(32),
  /** What the bytes are missing for. */
  excuse: z.enum(['lifetime', 'pruned']),
})

/** What a revoked device wrote beyond its cut: it counts for nothing, and is here because the chain and the order are. */
const voided = z.strictObject({
  type: z.literal('void'),
  user_seq: counter,
  stream_seq: counter,
  stored_at: counter,
  wire: base64url(),
})

/** What is held back: its device is at fault, or it waits for a key or a signature. Nothing in it is opened. */
const held = z.strictObject({
  type: z.literal('held'),
  user_seq: counter,
  stream_seq: counter,
  stored_at: counter,
  wire: base64url(),
})

const end = z.strictObject({
  type: z.literal('end'),
  device_log_entries: counter,
  events: counter,
  leaf: counter,
  void: counter,
  held: counter,
  /** c_0 = 32 zeros, c_n = SHA-256(c_{n-1} | line n without its end). */
  check: hex(32),
})

const line = z.discriminatedUnion('type', [header, deviceLog, event, leaf, voided, held, end])
export type ExportLine = z.infer<typeof line>
export type ExportedEvent = z.infer<typeof event>
export type WrittenLine = z.input<typeof line>
export type WrittenContent = z.input<typeof content>

/** The file is not what `writeExport` made; the message says which line and what was expected. */
export class ExportFileError extends Error {
  override readonly name = 'ExportFileError'
  readonly line: number

  constructor(lineNumber: number, problem: string) {
    super(`Line ${lineNumber}: ${problem}`)
    this.line = lineNumber
  }
}

export const formatExportLine = (written: WrittenLine): string => JSON.stringify(written)

/** Throws an ExportFileError. */
export function parseExportLine(text: string, lineNumber: number): ExportLine {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    throw new ExportFileError(
      lineNumber,
      'not JSON; expected one whole object a line. Was the file cut off or changed?',
    )
  }
  const parsed = line.safeParse(json)
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  const field = issue?.path.map(String).join('.').slice(0, 64)
  const what = issue?.code === 'custom' ? issue.message : 'expected a value as docs/EXPORT.md says'
  throw new ExportFileError(lineNumber, field ? `field ${field}: ${what}` : what)
}
