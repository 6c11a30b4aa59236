// The byte of flags in an event's header (PROTOCOL E), and which of them go together.

const FLAG_TOMBSTONE = 1
/** Reserved for an event that takes others back: refused until it is defined. */
const FLAG_FORGET = 2
const FLAG_CHECKPOINT = 4
const FLAG_KEPT = 8
const KNOWN_FLAGS = FLAG_TOMBSTONE | FLAG_CHECKPOINT | FLAG_KEPT

export interface EventFlags {
  /** Takes the place of a refused event; it seals nothing. */
  readonly isTombstone: boolean
  /** The header ends with a list of chains. Every checkpoint is kept. */
  readonly isCheckpoint: boolean
  /** An event of the client's own: it has no lifetime. */
  readonly isKept: boolean
}

/** Throws a RangeError for flags that `parseFlags` would refuse. */
export function encodeFlags({ isTombstone, isCheckpoint, isKept }: EventFlags): number {
  const flags = (isTombstone ? FLAG_TOMBSTONE : 0) | (isCheckpoint ? FLAG_CHECKPOINT : 0) | (isKept ? FLAG_KEPT : 0)
  if (parseFlags(flags) === undefined) throw new RangeError('a checkpoint is kept, and no tombstone')
  return flags
}

/** `undefined` for an unknown flag, or a checkpoint that is a tombstone or not kept. */
export function parseFlags(flags: number): EventFlags | undefined {
  if (hasUnknownFlags(flags)) return undefined
  const isTombstone = (flags & FLAG_TOMBSTONE) !== 0
  const isCheckpoint = (flags & FLAG_CHECKPOINT) !== 0
  const isKept = (flags & FLAG_KEPT) !== 0
  return isCheckpoint && (isTombstone || !isKept) ? undefined : { isTombstone, isCheckpoint, isKept }
}

/** True when a flag is set that this program does not know. */
export const hasUnknownFlags = (flags: number): boolean => (flags & (~KNOWN_FLAGS | FLAG_FORGET)) !== 0

/** True for the flags of a kept event, as they stand in a leaf. */
export const isKeptFlags = (flags: number): boolean => (flags & FLAG_KEPT) !== 0
