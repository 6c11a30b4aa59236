// Whether this node should get traffic, with reasons. A problem takes it out of the balancer; a note is for people only:
// with Redis away a node serves on, since Postgres is the truth and heads are compared more often (DESIGN 5).

import type { MigrationState } from '../db/migrate.ts'
import type { StorageLevel } from '../limits/storage-level.ts'

export interface Readiness {
  /** Why this node should get no traffic; empty when it is ready. */
  readonly problems: readonly string[]
  /** What is not as it should be, and does not keep it from serving. */
  readonly notes: readonly string[]
}

export interface ReadinessParts {
  isDraining(): boolean
  isBusHealthy(): boolean
  /** The server's key was changed on another node, and this one does not have the new one. */
  isKeyStale(): boolean
  storageLevel(): StorageLevel
  /** Rejects when the database is out of reach. */
  readMigrationState(): Promise<MigrationState>
  /** Whether an event could be stored now. */
  canStore(): Promise<boolean>
  /** Milliseconds of any steady clock. */
  now(): number
}

export interface ReadinessCheck {
  /** Asks the database. Whoever asks at the same moment shares the answer. */
  check(): Promise<Readiness>
  /** An answer of the last few seconds, for whoever looks every second. */
  recent(): Promise<Readiness>
}

/** Who asks whether this node is ready does not wait for a database that says nothing. */
const READY_TIMEOUT_MS = 2000
const RECENT_MS = 3000

export function createReadiness(parts: ReadinessParts): ReadinessCheck {
  let latest: { readonly readiness: Readiness; readonly atMs: number } | undefined
  let underWay: Promise<Readiness> | undefined

  const lookAtDatabase = async (): Promise<Readiness> => {
    const migrations = await parts
      .readMigrationState()
      .then(describeMigrations, () => problem('database: out of reach'))
    if (migrations.problems.length > 0 || (await parts.canStore())) return migrations
    return problem('database: it answers, but no event can be stored; log.append.fail in the log says why')
  }

  const look = async (): Promise<Readiness> => {
    if (parts.isDraining()) return { problems: ['draining: this node is stopping'], notes: [] }
    const database = await withinTime(lookAtDatabase())
    const bus = parts.isBusHealthy()
      ? []
      : ['bus: Redis is away; this node serves on, and compares the log with other nodes’ more often']
    const key = parts.isKeyStale() ? ['identity: the key was changed; copy the new identity.key to this node'] : []
    const storage = STORAGE_NOTES[parts.storageLevel()]
    return { problems: database.problems, notes: [...database.notes, ...bus, ...key, ...storage] }
  }

  const check = (): Promise<Readiness> => {
    underWay ??= look()
      .then((readiness) => {
        latest = { readiness, atMs: parts.now() }
        return readiness
      })
      .finally(() => {
        underWay = undefined
      })
    return underWay
  }

  return {
    check,
    recent: async () => {
      const isFresh = latest !== undefined && parts.now() - latest.atMs < RECENT_MS && !parts.isDraining()
      return isFresh && latest !== undefined ? latest.readiness : check()
    },
  }
}

/**
 * Notes, not problems: such a node still delivers, revokes and deletes, and those beside it share its database. Without
 * traffic it could do nothing that makes room.
 */
const STORAGE_NOTES: Readonly<Record<StorageLevel, readonly string[]>> = {
  ok: [],
  low: ['storage: low; nobody can register until there is room'],
  critical: ['storage: critical; nobody can register or publish until there is room'],
}

const problem = (text: string): Readiness => ({ problems: [text], notes: [] })

/** A newer version's migrations are no problem: in a rolling deploy the old nodes serve until they are replaced. */
function describeMigrations(state: MigrationState): Readiness {
  switch (state.type) {
    case 'current':
      return { problems: [], notes: [] }
    case 'behind':
      return problem(
        `migrations: the database is at ${state.applied}, this version needs ${state.needed}; restart this node to apply them`,
      )
    case 'ahead':
      return {
        problems: [],
        notes: [`migrations: the database has ${state.number} of a newer version; replace this node by that version`],
      }
    case 'changed':
      return problem(
        `migrations: ${state.number} in the database is another than this version's; restore the right one`,
      )
  }
}

async function withinTime(readiness: Promise<Readiness>): Promise<Readiness> {
  let deadline: NodeJS.Timeout | undefined
  const expired = new Promise<Readiness>((resolve) => {
    deadline = setTimeout(() => resolve(problem(`database: no answer in ${READY_TIMEOUT_MS} ms`)), READY_TIMEOUT_MS)
  })
  try {
    return await Promise.race([readiness, expired])
  } finally {
    clearTimeout(deadline)
  }
}
