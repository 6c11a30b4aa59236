// The log epoch that this node tells its sessions, compared with the database's: an operator who puts a backup back
// changes it, and every node then ends the sessions that began before.

import { equalBytes } from '@valise/protocol'
import type { LogEpochRow } from '../db/queries/server-state.ts'

export interface LogEpochParts {
  read(): Promise<LogEpochRow>
  /** The epoch is another than the one told so far. */
  onChange(): void
  onFailure(error: unknown): void
}

export interface LogEpoch {
  readonly current: LogEpochRow
  /** Compares, one check after another: an older answer that comes later is not taken for a change. Never rejects. */
  check(): Promise<void>
}

/** Rejects when the epoch cannot be read. */
export async function openLogEpoch(parts: LogEpochParts): Promise<LogEpoch> {
  let current = await parts.read()
  const compare = async (): Promise<void> => {
    try {
      const next = await parts.read()
      if (equalBytes(next.id, current.id)) return
      current = next
      parts.onChange()
    } catch (error) {
      parts.onFailure(error)
    }
  }
  let checking: Promise<void> = Promise.resolve()
  return {
    get current() {
      return current
    },
    check: () => {
      checking = checking.then(compare)
      return checking
    },
  }
}
