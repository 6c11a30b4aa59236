// The CPU time that everybody spent between two moments of a run, an event.

import { readMachineCpuMs, readPostgresCpuMs } from './cpu.ts'
import type { ServerProcess } from './server-process.ts'

/** CPU microseconds an event; undefined where it cannot be seen. */
export interface CpuPerEvent {
  readonly serverUs: number
  readonly postgresUs: number | undefined
  readonly loadUs: number
  /** Share of the machine's CPU time in the window that went to processes that are no part of the benchmark. */
  readonly foreignShare: number | undefined
}

export interface CpuSnapshot {
  readonly atMs: number
  readonly events: number
  readonly serverMs: number
  readonly postgresMs: number | undefined
  readonly loadMs: number
  readonly machineMs: number | undefined
}

/** Without `postmaster` PostgreSQL has no part in it. `received` is asked when the server has answered. */
export async function takeSnapshot(
  server: ServerProcess,
  postmaster: number | undefined,
  received: () => number,
): Promise<CpuSnapshot> {
  const postgresMs = readPostgresCpuMs(postmaster)
  const machineMs = readMachineCpuMs()
  const { cpuMs } = await server.readUsage()
  const { user, system } = process.cpuUsage()
  const loadMs = (user + system) / 1000
  return { atMs: performance.now(), events: received(), serverMs: cpuMs, postgresMs, loadMs, machineMs }
}

export function cpuBetween(begin: CpuSnapshot, end: CpuSnapshot, cores: number): CpuPerEvent {
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

export const difference = (begin: number | undefined, end: number | undefined): number | undefined =>
  begin === undefined || end === undefined ? undefined : end - begin
