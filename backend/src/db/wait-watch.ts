// What slow queries wait for: while a query runs towards the slow threshold and beyond, its backend's wait event is read
// now and then over a connection apart. Bounded in backends, in looks at each, and to one reading at a time; a query that
// is not slow costs an entry in a set.

import { performance } from 'node:perf_hooks'

/** `nothing`: it computed. `unknown`: nobody looked, or the database did not say. */
export interface ObservedWait {
  readonly kind: 'lock' | 'disk' | 'other' | 'nothing' | 'unknown'
  /** PostgreSQL's own names, as `Lock:transactionid`. */
  readonly event?: string
}

/** A backend at one moment, as pg_stat_activity has it; no event while it computes. */
export interface BackendState {
  readonly pid: number
  readonly waitType: string | null
  readonly waitEvent: string | null
}

export interface WaitWatchParts {
  readonly slowQueryMs: number
  /** Of those that are at a query; rejects when it cannot be told. */
  readStates(pids: readonly number[]): Promise<readonly BackendState[]>
}

export interface WaitWatch {
  /** A query begins on a backend. The result is called at its end, and says what it was seen to wait for. */
  begin(pid: number | undefined): () => ObservedWait
  close(): void
}

const MAX_BACKENDS = 32
const MAX_LOOKS = 200
const LOOK_INTERVAL_MS = { least: 10, most: 250 }

interface Running {
  readonly pid: number
  readonly startedAtMs: number
  looks: number
  seen: Map<string, { readonly wait: ObservedWait; count: number }> | undefined
}

export function createWaitWatch({ slowQueryMs, readStates }: WaitWatchParts): WaitWatch {
  const running = new Set<Running>()
  let isReading = false

  const look = async (): Promise<void> => {
    // From half of the threshold on, so that one that just passes it has been looked at.
    const beforeMs = performance.now() - slowQueryMs / 2
    const due: Running[] = []
    for (const query of running) {
      if (query.startedAtMs > beforeMs || query.looks >= MAX_LOOKS) continue
      if (due.push(query) === MAX_BACKENDS) break
    }
    if (due.length === 0) return
    for (const query of due) query.looks++
    const states = await readStates(due.map(({ pid }) => pid))
    for (const state of states) {
      const query = due.find(({ pid }) => pid === state.pid)
      // The backend may be at its next query already.
      if (query === undefined || !running.has(query)) continue
      const wait = waitOf(state)
      query.seen ??= new Map()
      const known = query.seen.get(`${state.waitEvent}`)
      if (known === undefined) query.seen.set(`${state.waitEvent}`, { wait, count: 1 })
      else known.count++
    }
  }

  const interval = Math.min(LOOK_INTERVAL_MS.most, Math.max(LOOK_INTERVAL_MS.least, slowQueryMs / 8))
  const timer = setInterval(() => {
    if (isReading || running.size === 0) return
    isReading = true
    // A database that cannot be asked leaves the wait unknown, and its own troubles are logged by those who need it.
    look()
      .catch(() => undefined)
      .finally(() => {
        isReading = false
      })
  }, interval).unref()

  return {
    begin: (pid) => {
      if (pid === undefined) return () => ({ kind: 'unknown' })
      const query: Running = { pid, startedAtMs: performance.now(), looks: 0, seen: undefined }
      running.add(query)
      return () => {
        running.delete(query)
        return mostSeen(query.seen)
      }
    },
    close: () => clearInterval(timer),
  }
}

function mostSeen(seen: Running['seen']): ObservedWait {
  const [most] = [...(seen?.values() ?? [])].sort((a, b) => b.count - a.count)
  return most?.wait ?? { kind: 'unknown' }
}

/** PostgreSQL manual, table "wait event types". */
export function waitOf({ waitType, waitEvent }: BackendState): ObservedWait {
  if (waitType === null || waitEvent === null) return { kind: 'nothing' }
  return { kind: kindOf(waitType, waitEvent), event: `${waitType}:${waitEvent}` }
}

function kindOf(waitType: string, waitEvent: string): ObservedWait['kind'] {
  switch (waitType) {
    case 'Lock':
    case 'BufferPin':
      return 'lock'
    case 'IO':
      return 'disk'
    case 'LWLock':
      // Somebody else is at writing the log, and this commit goes with it.
      return waitEvent === 'WALWrite' ? 'disk' : 'lock'
    default:
      return 'other'
  }
}
