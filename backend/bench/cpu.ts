// CPU time of other processes, from /proc (proc(5)); nothing where there is none, as on macOS or with a remote database.

import { readdirSync, readFileSync } from 'node:fs'
import type pg from 'pg'

/** USER_HZ is 100 on every Linux of today. */
const MS_PER_TICK = 10

interface ProcessStat {
  readonly name: string
  readonly parentPid: number
  /** User and system time, without and with that of children that have ended. */
  readonly ownMs: number
  readonly withChildrenMs: number
}

function readStat(pid: number): ProcessStat | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    const end = text.lastIndexOf(')')
    const fields = text
      .slice(end + 2)
      .split(' ')
      .map(Number)
    const [utime = 0, stime = 0, cutime = 0, cstime = 0] = fields.slice(11, 15)
    return {
      name: text.slice(text.indexOf('(') + 1, end),
      parentPid: fields[1] ?? 0,
      ownMs: (utime + stime) * MS_PER_TICK,
      withChildrenMs: (utime + stime + cutime + cstime) * MS_PER_TICK,
    }
  } catch {
    return undefined
  }
}

/** The process all others of this PostgreSQL server descend from, when it runs on this machine. */
export async function findPostmaster(client: pg.Client): Promise<number | undefined> {
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid')
  const backend = readStat(rows[0]?.pid ?? 0)
  return backend?.name === 'postgres' ? backend.parentPid : undefined
}

/** CPU milliseconds of the PostgreSQL server and all its processes, those ended too. */
export function readPostgresCpuMs(postmaster: number | undefined): number | undefined {
  const parent = postmaster === undefined ? undefined : readStat(postmaster)
  if (parent === undefined) return undefined
  const pids = readdirSync('/proc').map(Number).filter(Number.isInteger)
  const children = pids.map(readStat).filter((stat) => stat?.parentPid === postmaster)
  return children.reduce((sum, child) => sum + (child?.ownMs ?? 0), parent.withChildrenMs)
}

/** CPU milliseconds that all processes of the machine together have used since boot. */
export function readMachineCpuMs(): number | undefined {
  try {
    const [, user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = readFileSync('/proc/stat', 'utf8')
      .slice(0, 400)
      .split('\n')[0]!
      .split(/\s+/)
      .map(Number)
    return (user + nice + system + irq + softirq) * MS_PER_TICK
  } catch {
    return undefined
  }
}
