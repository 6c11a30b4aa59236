// The process and its limits: Node's version, and whether as many files may be open as connections are allowed.

import { z } from 'zod'
import type { Config } from '../config.ts'
import { type Finding, findingsOf } from './finding.ts'

const { ok, note, wrong } = findingsOf('machine')
const OLDEST_NODE = { major: 20, minor: 19 } as const
/** Files that are no connections of devices or of the database: ports, logs, the embedded database's own. */
const OTHER_FILES = 100

const limitsSchema = z.object({
  userLimits: z.object({ open_files: z.object({ soft: z.union([z.number(), z.string()]) }) }),
})

export function checkMachine(config: Config, node = process.versions.node, openFiles = readOpenFileLimit()): Finding[] {
  return [checkNode(node), checkOpenFiles(config, openFiles)]
}

function checkNode(version: string): Finding {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const isOld = major < OLDEST_NODE.major || (major === OLDEST_NODE.major && minor < OLDEST_NODE.minor)
  const oldest = `${OLDEST_NODE.major}.${OLDEST_NODE.minor}`
  return isOld ? wrong(`Node.js ${version} is too old`, `install ${oldest} or newer`) : ok(`Node.js ${version}`)
}

function checkOpenFiles({ maxConnections, poolSize }: Config, limit: number): Finding {
  const needed = maxConnections + poolSize + OTHER_FILES
  if (limit >= needed)
    return ok(
      `${Number.isFinite(limit) ? limit : 'any number of'} files may be open, enough for ${maxConnections} connections`,
    )
  return note(
    `${limit} files may be open in this shell, too few for VALISE_MAX_CONNECTIONS (${maxConnections}): sockets above it are refused by the system`,
    `raise it where the server is started to ${needed} (\`ulimit -n ${needed}\`, or LimitNOFILE=${needed} in its systemd unit), or lower VALISE_MAX_CONNECTIONS`,
  )
}

/** Infinite where the system sets none, or does not tell. */
function readOpenFileLimit(): number {
  const limits = limitsSchema.safeParse(process.report?.getReport())
  const soft = limits.data?.userLimits.open_files.soft
  return typeof soft === 'number' ? soft : Number.POSITIVE_INFINITY
}
