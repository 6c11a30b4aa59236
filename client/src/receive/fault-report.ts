// A report of a fault (`valise/fault`): the faulty event's own bytes, in parts, so that a device that never saw them, because
// their lifetime ended first, can judge them itself. A report proves nothing by itself: the bytes must have the leaf that
// stands at their place in the log.

import { createByteReader, createByteWriter, type DeviceId, toDeviceId, toHex } from '@valise/protocol'

export const FAULT_STREAM = 'valise/fault'
export const FAULT_TYPE = 'valise/fault'

const REPORT_VERSION = 1
/** u8 version | device_id | u64 device_seq | u8 part | u8 parts. */
const HEADER_BYTES = 1 + 16 + 8 + 1 + 1
/** The largest event, with its header, list and padding, takes fewer. */
export const MAX_REPORT_PARTS = 16

export interface ReportPart {
  /** The event that is reported. */
  readonly deviceId: DeviceId
  readonly deviceSeq: number
  /** From 0. */
  readonly part: number
  readonly parts: number
  readonly bytes: Uint8Array
}

/** `maxBody` is the room in one event's content. Throws a RangeError for an event that no report holds. */
export function splitReport(
  event: { readonly deviceId: DeviceId; readonly deviceSeq: number; readonly wire: Uint8Array },
  maxBody: number,
): ReportPart[] {
  const room = maxBody - HEADER_BYTES
  const parts = Math.ceil(event.wire.length / room)
  if (room < 1 || parts > MAX_REPORT_PARTS) throw new RangeError('the event is too large for a report')
  const { deviceId, deviceSeq } = event
  return Array.from({ length: parts }, (_, part) => ({
    deviceId,
    deviceSeq,
    part,
    parts,
    bytes: event.wire.subarray(part * room, (part + 1) * room),
  }))
}

export const encodeReportPart = ({ deviceId, deviceSeq, part, parts, bytes }: ReportPart): Uint8Array =>
  createByteWriter().u8(REPORT_VERSION).bytes(deviceId).u64(deviceSeq).u8(part).u8(parts).bytes(bytes).finish()

/** `undefined` for anything else, a newer version among it: a report that cannot be read reports nothing. */
export function parseReportPart(body: Uint8Array): ReportPart | undefined {
  const reader = createByteReader(body)
  const version = reader.u8()
  const deviceId = toDeviceId(reader.bytes(16))
  const deviceSeq = reader.u64()
  const part = reader.u8()
  const parts = reader.u8()
  if (reader.hasFailed() || version !== REPORT_VERSION || deviceId === undefined || deviceSeq < 1) return undefined
  if (parts < 1 || parts > MAX_REPORT_PARTS || part >= parts || body.length === HEADER_BYTES) return undefined
  return { deviceId, deviceSeq, part, parts, bytes: body.subarray(HEADER_BYTES) }
}

/** Puts the parts of one reporter together, which come in order. Holds one report a reporter. */
export interface ReportAssembly {
  /** The event's bytes once the last part is there. */
  add(reporter: string, part: ReportPart): Uint8Array | undefined
}

/** Reporters whose unfinished report is kept; a device log has at most so many active devices. */
const MAX_REPORTERS = 64

export function createReportAssembly(): ReportAssembly {
  const open = new Map<string, { readonly key: string; readonly pieces: Uint8Array[] }>()
  return {
    add: (reporter, { deviceId, deviceSeq, part, parts, bytes }) => {
      const key = `${toHex(deviceId)}/${deviceSeq}/${parts}`
      const before = open.get(reporter)
      const pieces = part === 0 ? [] : before?.key === key && before.pieces.length === part ? before.pieces : undefined
      open.delete(reporter)
      if (pieces === undefined) return undefined
      pieces.push(bytes.slice())
      if (pieces.length === parts) return concat(pieces)
      if (open.size >= MAX_REPORTERS) open.clear()
      open.set(reporter, { key, pieces })
      return undefined
    },
  }
}

function concat(pieces: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0))
  let at = 0
  for (const piece of pieces) {
    whole.set(piece, at)
    at += piece.length
  }
  return whole
}
