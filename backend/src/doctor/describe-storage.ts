// What the storage that is left means for a server that runs on it: the levels at which it closes registration and
// publishing. Pure.

import { type StorageMarks, storageLevelOf } from '../limits/storage-level.ts'
import type { Finding, Findings } from './finding.ts'

const MIB = 1024 * 1024

/** `where` continues "… MiB are left". */
export function describeStorage(
  { ok, note, wrong }: Findings,
  left: { readonly bytes: number; readonly where: string; readonly remedy: string },
  marks: StorageMarks,
): Finding {
  const text = `${Math.floor(left.bytes / MIB)} MiB are left ${left.where}`
  switch (storageLevelOf('ok', left.bytes, marks)) {
    case 'ok':
      return ok(text)
    case 'low':
      return note(`only ${text}: nobody can register (VALISE_STORAGE_LOW_BYTES)`, left.remedy)
    case 'critical':
      return wrong(`only ${text}: nobody can register or publish (VALISE_STORAGE_CRITICAL_BYTES)`, left.remedy)
  }
}
