// The server's time as this device knows it: its own clock, put right by what the last session said. Lifetimes that may end
// before their event is stored are counted by it (decision 0009), so a clock that is a day off loses none.

import { decode, encode } from 'cborg'
import { z } from 'zod'
import type { Clock } from './clock.ts'
import { storeKeys } from './store/layout.ts'
import { put, type Store } from './store/store.ts'

export interface ServerTime {
  /** Unix milliseconds, as many as fit into an event's id: whatever a server says, an id can be made of it. */
  now(): number
  /** What a session that has just begun says of its server's clock. */
  note(serverMs: number): void
  /** Keeps it for the next start; nothing is written for a clock that goes as before. */
  save(): Promise<void>
}

/** 48 bits (RFC 9562 §5.7). */
const MAX_ID_TIME_MS = 2 ** 48 - 1
/** Below that, two sessions say the same of a clock. */
const TOLERANCE_MS = 1000

const storedAhead = z.strictObject({ ahead_ms: z.int() })

export async function openServerTime({
  store,
  clock,
}: {
  readonly store: Store
  readonly clock: Clock
}): Promise<ServerTime> {
  const stored = await store.get(storeKeys.serverAhead)
  let savedMs = stored === undefined ? 0 : storedAhead.parse(decode(stored)).ahead_ms
  let aheadMs = savedMs
  return {
    now: () => Math.min(MAX_ID_TIME_MS, Math.max(0, clock.now() + aheadMs)),
    note: (serverMs) => {
      aheadMs = serverMs - clock.now()
    },
    save: async () => {
      if (Math.abs(aheadMs - savedMs) < TOLERANCE_MS) return
      savedMs = aheadMs
      await store.batch([put(storeKeys.serverAhead, encode({ ahead_ms: aheadMs }))])
    },
  }
}
