// The form of a frame (docs/PROTOCOL.md B): a header of version and phase, then one sealed kind and payload.

const FRAME_VERSION = 1
export const FRAME_HEADER_BYTES = 2
const KIND_BYTES = 1
const TAG_BYTES = 16

/** What a frame adds to its payload. */
export const FRAME_OVERHEAD_BYTES = FRAME_HEADER_BYTES + KIND_BYTES + TAG_BYTES

export const FRAME_KINDS = {
  application: 0,
  rekey_init: 1,
  rekey_resp: 2,
  rekey_done: 3,
  rekey_hint: 4,
  close_notify: 5,
} as const

export type FrameKind = keyof typeof FRAME_KINDS

const KIND_BY_CODE: ReadonlyMap<number, FrameKind> = new Map([
  [FRAME_KINDS.application, 'application'],
  [FRAME_KINDS.rekey_init, 'rekey_init'],
  [FRAME_KINDS.rekey_resp, 'rekey_resp'],
  [FRAME_KINDS.rekey_done, 'rekey_done'],
  [FRAME_KINDS.rekey_hint, 'rekey_hint'],
  [FRAME_KINDS.close_notify, 'close_notify'],
])

export const toFrameKind = (code: number): FrameKind | undefined => KIND_BY_CODE.get(code)

/** All there are, shared by all directions: read, never written. */
const HEADERS = Array.from({ length: 256 }, (_, phase) => Uint8Array.of(FRAME_VERSION, phase))

/**
 * The header counts phases modulo 256, while both sides count them whole. That is no ambiguity: a phase is entered
 * only by a rotation that both sides made, each phase has keys of its own, and a receiver opens the current one only.
 */
export const frameHeader = (phase: number): Uint8Array =>
  HEADERS[phase % 256] ?? Uint8Array.of(FRAME_VERSION, phase % 256)
