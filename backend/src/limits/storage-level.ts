// How near the end of its storage a server is (LIM-28), from the bytes that are left. A level is left again only when there
// is an eighth more than its mark, so that a server at the mark does not open and close by turns. Pure.

export type StorageLevel =
  | 'ok'
  /** Nobody registers. */
  | 'low'
  /** Nobody registers or publishes; what frees storage and what protects an account goes on. */
  | 'critical'

/** Below so many bytes left; 0: never. */
export interface StorageMarks {
  readonly lowBytes: number
  readonly criticalBytes: number
}

const LEAVE_AT = 1.125

export function storageLevelOf(before: StorageLevel, leftBytes: number, marks: StorageMarks): StorageLevel {
  const isBelow = (markBytes: number, isWithin: boolean): boolean =>
    leftBytes < (isWithin ? markBytes * LEAVE_AT : markBytes)
  if (isBelow(marks.criticalBytes, before === 'critical')) return 'critical'
  return isBelow(marks.lowBytes, before !== 'ok') ? 'low' : 'ok'
}

export const isRegistrationClosed = (level: StorageLevel): boolean => level !== 'ok'
export const isPublishingClosed = (level: StorageLevel): boolean => level === 'critical'
