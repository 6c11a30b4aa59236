// What a client tells its operator: structured entries without secrets. Writing them is the application's.

import type { Clock } from './clock.ts'

export interface ClientLogEntry {
  readonly level: 'debug' | 'info' | 'warn' | 'error'
  /** area.noun.verb */
  readonly event: string
  readonly [field: string]: unknown
}

export type ClientLog = (entry: ClientLogEntry) => void

export const noLog: ClientLog = () => {}

/** Entries of one kind in a window; the next window says how many more there were. */
const MAX_REPEATS = 10
const WINDOW_MS = 60_000

/** What a server can make happen again and again does not fill a disk: kinds are few, and each is written so often. */
export function boundLog(log: ClientLog, clock: Pick<Clock, 'now'>): ClientLog {
  const byKind = new Map<string, { beganAtMs: number; written: number; suppressed: number }>()
  return (entry) => {
    const { event, code } = entry as ClientLogEntry & { readonly code?: unknown }
    const kind = `${event} ${typeof code === 'string' ? code : ''}`
    const nowMs = clock.now()
    const known = byKind.get(kind)
    const isOver = known === undefined || nowMs < known.beganAtMs || nowMs - known.beganAtMs >= WINDOW_MS
    const window = isOver ? { beganAtMs: nowMs, written: 0, suppressed: 0 } : known
    byKind.set(kind, window)
    if (window.written >= MAX_REPEATS) {
      window.suppressed += 1
      return
    }
    window.written += 1
    log(isOver && known !== undefined && known.suppressed > 0 ? { ...entry, suppressed: known.suppressed } : entry)
  }
}
