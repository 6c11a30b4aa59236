// The loads that are measured, and one run of one of them with the CPU time that everybody spent meanwhile.

import { readMachineCpuMs, readPostgresCpuMs } from './cpu.ts'
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

/** CPU microseconds an event; undefined where it cannot be seen. */
export interface CpuPerEvent {
  readonly serverUs: number
  readonly postgresUs: number | undefined
  readonly loadUs: number
  /** Share of the machine's CPU time in the window that went to processes that are no part of the benchmark. */
  readonly foreignShare: number | undefined
}

export interface CaseResult extends LoadResult {
  readonly eventsPerCommit: number | undefined
  readonly cpu: CpuPerEvent
}

export interface CaseParts {
  readonly server: ServerProcess
  readonly sealing: Sealing
  /** As many as the case has, none of them used before. */
  readonly users: readonly BenchUser[]
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

interface Snapshot {
  readonly atMs: number
  readonly events: number
  readonly commits: number | undefined
  readonly serverMs: number
  readonly postgresMs: number | undefined
  readonly loadMs: number
  readonly machineMs: number | undefined
}

export async function runCase(load: LoadCase, parts: CaseParts): Promise<CaseResult> {
  const measureMs = parts.seconds * 1000
  const events = Math.ceil((load.sealedPerSecond * (WARM_UP_MS + measureMs)) / 1000 / load.users)
  const sealed = await parts.sealing.seal(parts.users, events, BODY_BYTES)
  const snapshots: Snapshot[] = []
  const result = await runLoad({
    server: parts.server.address,
    users: parts.users,
    sealed,
    inFlight: load.inFlight,
    warmUpMs: WARM_UP_MS,
    measureMs,
    onWindow: async (_edge, received) => {
      const postgresMs = load.database === 'postgres' ? readPostgresCpuMs(parts.postmaster) : undefined
      const machineMs = readMachineCpuMs()
      const commits = await parts.server.readCommits()
      const { cpuMs } = await parts.server.readUsage()
      const { user, system } = process.cpuUsage()
      const loadMs = (user + system) / 1000
      const events = received()
      snapshots.push({ atMs: performance.now(), events, commits, serverMs: cpuMs, postgresMs, loadMs, machineMs })
    },
  })
  const [begin, end] = snapshots
  if (begin === undefined || end === undefined) throw new Error('the window was not measured')
  const commits = difference(begin.commits, end.commits)
  return {
    ...result,
    cpu: compare(begin, end, parts.cores),
    eventsPerCommit: commits === undefined ? undefined : (end.events - begin.events) / commits,
  }
}

function compare(begin: Snapshot, end: Snapshot, cores: number): CpuPerEvent {
  const events = end.events - begin.events
  const serverMs = end.serverMs - begin.serverMs
  const loadMs = end.loadMs - begin.loadMs
  const postgresMs = difference(begin.postgresMs, end.postgresMs)
  const machineMs = difference(begin.machineMs, end.machineMs)
  const foreignMs = machineMs === undefined ? undefined : machineMs - serverMs - loadMs - (postgresMs ?? 0)
  return {
    serverUs: (serverMs * 1000) / events,
    postgresUs: postgresMs === undefined ? undefined : (postgresMs * 1000) / events,
    loadUs: (loadMs * 1000) / events,
    foreignShare: foreignMs === undefined ? undefined : Math.max(0, foreignMs / ((end.atMs - begin.atMs) * cores)),
  }
}

const difference = (begin: number | undefined, end: number | undefined): number | undefined =>
  begin === undefined || end === undefined ? undefined : end - begin
