// The loads that are measured, and one run of one of them with the CPU time that everybody spent meanwhile.

import { type CpuPerEvent, type CpuSnapshot, cpuBetween, difference, takeSnapshot } from './cpu-window.ts'
import { type LoadResult, runLoad } from './load.ts'
import type { Sealing } from './sealing.ts'
import type { ServerProcess } from './server-process.ts'
import type { BenchUser } from './users.ts'

export interface LoadCase {
  readonly name: string
  readonly database: 'postgres' | 'pglite'
  readonly users: number
  readonly inFlight: number
  /** Events a second for which events are sealed in advance; a faster run ends when they are used up. */
  readonly sealedPerSecond: number
}

export const LOAD_CASES: readonly LoadCase[] = [
  { name: '1x1', database: 'postgres', users: 1, inFlight: 1, sealedPerSecond: 3_000 },
  { name: '10x8', database: 'postgres', users: 10, inFlight: 8, sealedPerSecond: 25_000 },
  { name: '50x8', database: 'postgres', users: 50, inFlight: 8, sealedPerSecond: 35_000 },
  { name: '50x32', database: 'postgres', users: 50, inFlight: 32, sealedPerSecond: 50_000 },
  { name: '10x8-pglite', database: 'pglite', users: 10, inFlight: 8, sealedPerSecond: 12_000 },
]

/** Run once on a fresh server, unmeasured: until V8 has compiled the hot path, a fifth of the CPU time is the compiler's. */
export const REHEARSAL = { users: 20, inFlight: 8, eventsEach: 3000 }

export interface CaseResult extends LoadResult {
  readonly eventsPerCommit: number | undefined
  readonly cpu: CpuPerEvent
}

export interface CaseParts {
  readonly server: ServerProcess
  readonly sealing: Sealing
  /** As many as the case has, none of them used before. */
  readonly users: readonly BenchUser[]
  /** The user_seq of what they have in their logs already; default: 0. */
  readonly startsAfter?: number
  readonly postmaster: number | undefined
  readonly seconds: number
  readonly cores: number
}

const WARM_UP_MS = 1500
const MAX_REHEARSAL_MS = 10_000
/** Application bytes in an event; the content around them adds 40, the event itself 250. */
const BODY_BYTES = 256

/** `users` are as many as REHEARSAL says. */
export async function rehearse(server: ServerProcess, sealing: Sealing, users: readonly BenchUser[]): Promise<void> {
  const sealed = await sealing.seal(users, REHEARSAL.eventsEach, BODY_BYTES)
  await runLoad({
    server: server.address,
    users,
    sealed,
    inFlight: REHEARSAL.inFlight,
    warmUpMs: 0,
    measureMs: MAX_REHEARSAL_MS,
    onWindow: async () => undefined,
  })
}

export async function runCase(load: LoadCase, parts: CaseParts): Promise<CaseResult> {
  const measureMs = parts.seconds * 1000
  const events = Math.ceil((load.sealedPerSecond * (WARM_UP_MS + measureMs)) / 1000 / load.users)
  const sealed = await parts.sealing.seal(parts.users, events, BODY_BYTES)
  const snapshots: CpuSnapshot[] = []
  const commits: (number | undefined)[] = []
  const postmaster = load.database === 'postgres' ? parts.postmaster : undefined
  const result = await runLoad({
    server: parts.server.address,
    users: parts.users,
    sealed,
    inFlight: load.inFlight,
    startsAfter: parts.startsAfter,
    warmUpMs: WARM_UP_MS,
    measureMs,
    onWindow: async (_edge, received) => {
      commits.push(await parts.server.readCommits())
      snapshots.push(await takeSnapshot(parts.server, postmaster, received))
    },
  })
  const [begin, end] = snapshots
  if (begin === undefined || end === undefined) throw new Error('the window was not measured')
  const commitCount = difference(commits[0], commits[1])
  return {
    ...result,
    cpu: cpuBetween(begin, end, parts.cores),
    eventsPerCommit: commitCount === undefined ? undefined : (end.events - begin.events) / commitCount,
  }
}
