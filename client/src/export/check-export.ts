// Checks an export file line by line, without a server: the device log from genesis, every event's place, chain and
// signature, that what stands open in the file is what is sealed in the event, and that nothing is missing up to the end.

import {
  applyEntry,
  type Crypto,
  type DeviceLogState,
  encodeUtf8,
  equalBytes,
  type ParsedEvent,
  parseEvent,
  toHex,
} from '@valise/protocol'
import { createAlarm } from '../alarm.ts'
import { checkEvents } from '../receive/check-events.ts'
import { openEventWithSubkey } from '../sealing/event-subkey.ts'
import { readContent } from '../sealing/open-content.ts'
import { type DeviceHead, type Excuse, NO_PROGRESS, type Progress, type StreamHead } from '../store/records.ts'
import { type ExportedEvent, ExportFileError, type ExportLine, parseExportLine } from './export-lines.ts'
import { nextCheck } from './write-export.ts'

export interface ExportSummary {
  /** The hash of the account's first entry: compare it with the one you know. */
  readonly userId: Uint8Array
  readonly exportId: Uint8Array
  readonly deviceLogEntries: number
  readonly events: number
  readonly expired: number
  /** Written by a revoked device beyond its cut. */
  readonly voided: number
  /** Held back when the file was written: sealed, and opened by nobody. */
  readonly heldBack: number
  readonly streams: number
}

export type ExpectedItem = Parameters<typeof checkEvents>[1]['events'][number]

/** Reads the lines to the end. Throws an ExportFileError at the first that does not hold. */
export async function checkExport(crypto: Crypto, lines: AsyncIterable<string>): Promise<ExportSummary> {
  const checker = createExportChecker(crypto)
  for await (const text of lines) checker.take(text)
  return checker.finish()
}

function createExportChecker(crypto: Crypto) {
  let lineNumber = 0
  let check = new Uint8Array(32)
  let header: Extract<ExportLine, { type: 'valise_export' }> | undefined
  let log: DeviceLogState | undefined
  let isEnded = false
  let progress: Progress = NO_PROGRESS
  const logHeads: Uint8Array[] = []
  const counts = { deviceLogEntries: 0, events: 0, expired: 0, voided: 0, heldBack: 0 }
  const deviceHeads = new Map<string, DeviceHead>()
  const streamHeads = new Map<string, StreamHead>()
  const nameByStream = new Map<string, string | null>()

  const fail = (problem: string): never => {
    throw new ExportFileError(lineNumber, problem)
  }

  const takeEntry = ({ seq, entry }: Extract<ExportLine, { type: 'device_log' }>): void => {
    if (counts.events + counts.expired + counts.voided + counts.heldBack > 0)
      fail('expected the device log before the events')
    if (seq !== counts.deviceLogEntries) fail(`expected entry ${counts.deviceLogEntries} of the device log`)
    const applied = applyEntry(crypto, log, entry)
    if (!applied.ok) return fail(`the entry breaks the rule ${applied.rule} of the device log`)
    log = applied.state
    logHeads.push(log.head)
    if (header !== undefined && !equalBytes(log.userId, header.user_id)) {
      fail('expected the device log of the account that the header names')
    }
    counts.deviceLogEntries += 1
  }

  /** Place, chain and signature, by the checks of a receiver. */
  const takeItem = (
    item: ExpectedItem,
    isVoid: boolean | undefined,
    { excuse, isHeld = false }: { readonly excuse?: Excuse; readonly isHeld?: boolean } = {},
  ): void => {
    if (log === undefined) return fail('expected the device log before the events')
    const known = {
      device: log,
      logHeadAt: (seq: number) => logHeads[seq],
      isPruned: () => excuse === 'pruned',
      progress,
      deviceHead: (deviceId: Uint8Array) => deviceHeads.get(toHex(deviceId)),
      streamHead: (streamId: Uint8Array) => streamHeads.get(toHex(streamId)),
      ownAhead: () => [],
    }
    // The file does not prove the time, so it is asked only whether the event had a lifetime that could end.
    const at = excuse === 'lifetime' ? Number.MAX_SAFE_INTEGER : undefined
    const outcome = checkEvents({ crypto, known, ownDeviceId: undefined }, { events: [item], through: item[0], at })
    if (outcome.type === 'update_needed') return fail('the event is of a newer form; update this program')
    if (outcome.type !== 'ok') {
      const alarm = outcome.type === 'alarm' ? outcome.alarm : createAlarm('log_seq_invalid')
      return fail(`${alarm.text} (${alarm.code})`)
    }
    if (outcome.batch.unproved.length > 0 && !isHeld) {
      const { text, code } = createAlarm('signature_invalid')
      return fail(`${text} (${code})`)
    }
    if (isVoid !== undefined && outcome.batch.events.some((event) => event.isVoid !== isVoid)) {
      fail(isVoid ? 'expected an event that lies beyond the cut of its device' : 'the event is void, by the device log')
    }
    progress = outcome.batch.progress
    for (const [id, { head }] of outcome.batch.deviceHeads) deviceHeads.set(id, head)
    for (const [id, { head }] of outcome.batch.streamHeads) streamHeads.set(id, head)
  }

  const takeEvent = (line: ExportedEvent): void => {
    const event = parseEvent(line.wire)
    if (event === undefined) return fail('field wire: expected an event')
    takeItem([line.user_seq, line.stream_seq, line.stored_at, line.wire], false)
    const field = differingField(line, event)
    if (field !== undefined) fail(`field ${field}: expected what stands in the sealed event`)
    if (!isOpenAs(line, event)) fail('field content: expected what is sealed in the event')
    const stream = toHex(line.stream_id)
    const known = nameByStream.get(stream)
    if (known !== undefined && known !== line.stream) fail('field stream: expected one name for one stream')
    nameByStream.set(stream, line.stream)
    counts.events += 1
  }

  const takeEnd = (end: Extract<ExportLine, { type: 'end' }>): void => {
    const areAll =
      end.device_log_entries === counts.deviceLogEntries &&
      end.events === counts.events &&
      end.leaf === counts.expired &&
      end.void === counts.voided &&
      end.held === counts.heldBack
    if (!areAll) {
      fail(
        `expected ${end.events} events, ${end.leaf} leaves, ${end.void} void, ${end.held} held back, ${end.device_log_entries} entries before`,
      )
    }
    if (!equalBytes(end.check, check)) fail('field check: the lines before are not those that were written')
    isEnded = true
  }

  const takeLine = (line: ExportLine): void => {
    if (isEnded) fail('expected nothing after the end')
    if ((header === undefined) !== (line.type === 'valise_export')) fail('expected one header, on the first line')
    switch (line.type) {
      case 'valise_export':
        header = line
        return
      case 'device_log':
        return takeEntry(line)
      case 'event':
        return takeEvent(line)
      case 'leaf':
        takeItem(leafItemOf(line), undefined, { excuse: line.excuse })
        counts.expired += 1
        return
      case 'void':
        takeItem([line.user_seq, line.stream_seq, line.stored_at, line.wire], true)
        counts.voided += 1
        return
      case 'held':
        takeItem([line.user_seq, line.stream_seq, line.stored_at, line.wire], false, { isHeld: true })
        counts.heldBack += 1
        return
      case 'end':
        return takeEnd(line)
    }
  }

  return {
    take: (text: string): void => {
      lineNumber += 1
      takeLine(parseExportLine(text, lineNumber))
      check = nextCheck(crypto, check, text)
    },
    finish: (): ExportSummary => {
      lineNumber += 1
      if (header === undefined) return fail('expected the header of an export')
      if (!isEnded) return fail('expected more: the file ends before its end')
      return { userId: header.user_id, exportId: header.export_id, ...counts, streams: nameByStream.size }
    },
  }
}

const leafItemOf = (line: Extract<ExportLine, { type: 'leaf' }>): ExpectedItem => [
  line.user_seq,
  line.stream_seq,
  line.stored_at,
  line.device_id,
  line.device_seq,
  line.ttl_s,
  line.flags,
  line.inner,
]

function differingField(line: ExportedEvent, event: ParsedEvent): string | undefined {
  if (!equalBytes(line.device_id, event.deviceId)) return 'device_id'
  if (line.device_seq !== event.deviceSeq) return 'device_seq'
  if (!equalBytes(line.event_id, event.eventId)) return 'event_id'
  if (!equalBytes(line.stream_id, event.streamId)) return 'stream_id'
  return line.ttl_s === event.ttlS ? undefined : 'ttl_s'
}

/** The body of the content as bytes. */
export const bodyOf = (content: NonNullable<ExportedEvent['content']>): Uint8Array =>
  'text' in content ? encodeUtf8(content.text) : content.base64url

function isOpenAs({ key, content, size }: ExportedEvent, event: ParsedEvent): boolean {
  const opened = readContent(event, openEventWithSubkey(key, event))
  if (opened.type === 'nothing') return content === null && size === 0
  if (opened.type !== 'content' || content === null) return false
  const sealed = opened.content
  const body = bodyOf(content)
  return (
    sealed.type === content.type && sealed.atMs === content.at && size === body.length && equalBytes(sealed.body, body)
  )
}
