// Brings a database to the schema this code needs: numbered, forward only, frozen once applied. All of it in one
// transaction under an advisory lock, so nodes that start at once on an empty database wait for the first.

import { createHash } from 'node:crypto'
import { initial } from './migrations/0001-initial.ts'
import { appendEventsFunction } from './migrations/0002-append-events.ts'
import { sessionNumbers } from './migrations/0003-session-numbers.ts'
import { invitations } from './migrations/0004-invitations.ts'
import { appendRunFunction } from './migrations/0005-append-run.ts'
import { auditLogIsAppendOnly } from './migrations/0006-audit-log.ts'
import { userStorage } from './migrations/0007-user-storage.ts'
import { pairing } from './migrations/0008-pairing.ts'
import { confirmedSessions } from './migrations/0009-confirmed-sessions.ts'
import { appendFaster } from './migrations/0010-append-faster.ts'
import { eventChains } from './migrations/0011-event-chains.ts'
import { displacement } from './migrations/0012-displacement.ts'
import { appendChecks } from './migrations/0013-append-checks.ts'
import { pendingAndLinks } from './migrations/0014-pending-and-links.ts'
import { nodeSecrets } from './migrations/0015-node-secrets.ts'
import { serverKeyChanges } from './migrations/0016-server-key-changes.ts'
import { pairingShares } from './migrations/0017-pairing-shares.ts'
import type { Migration } from './migrations/migration.ts'
import type { Database, Queryable, Statement } from './postgres.ts'

const MIGRATIONS: readonly Migration[] = [
  initial,
  appendEventsFunction,
  sessionNumbers,
  invitations,
  appendRunFunction,
  auditLogIsAppendOnly,
  userStorage,
  pairing,
  confirmedSessions,
  appendFaster,
  eventChains,
  displacement,
  appendChecks,
  pendingAndLinks,
  nodeSecrets,
  serverKeyChanges,
  pairingShares,
]

/** Any constant that no other program takes on the same database: the bytes of "valise". */
const LOCK_KEY = 0x76_61_6c_69_73_65
/** Other nodes wait for the lock while the first one migrates. */
const TIMEOUT_MS = 10 * 60_000

const lock: Statement = { name: '', text: 'select pg_advisory_xact_lock($1)' }
const createHistory: Statement = {
  name: '',
  text: `
    create table if not exists schema_migrations (
      number integer not null,
      name text not null,
      checksum text not null,
      applied_at timestamptz not null default now(),
      constraint schema_migrations_pkey primary key (number)
    )`,
}
const readHistory: Statement = {
  name: '',
  text: 'select number, name, checksum from schema_migrations order by number',
}
const recordMigration: Statement = {
  name: '',
  text: 'insert into schema_migrations (number, name, checksum) values ($1, $2, $3)',
}

/** How a database stands to this code. `behind`: migrations this code needs are missing; `ahead`: a newer version's are there. */
export type MigrationState =
  | { readonly type: 'current'; readonly number: number }
  | { readonly type: 'behind'; readonly applied: number; readonly needed: number }
  | { readonly type: 'ahead'; readonly number: number; readonly name: string }
  | { readonly type: 'changed'; readonly number: number; readonly name: string }

interface AppliedMigration {
  readonly number: number
  readonly name: string
  readonly checksum: string
}

const readHistoryNamed: Statement = { ...readHistory, name: 'read_migrations' }
const UNDEFINED_TABLE = '42P01'

/** Rejects when the database is out of reach. */
export async function readMigrationState(db: Queryable): Promise<MigrationState> {
  try {
    return judgeMigrations(await db.query<AppliedMigration>(readHistoryNamed, []))
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === UNDEFINED_TABLE) return judgeMigrations([])
    throw error
  }
}

function judgeMigrations(applied: readonly AppliedMigration[]): MigrationState {
  for (const { number, name, checksum } of applied) {
    const migration = MIGRATIONS.find((candidate) => candidate.number === number)
    if (migration === undefined) return { type: 'ahead', number, name }
    if (checksumOf(migration) !== checksum) return { type: 'changed', number, name }
  }
  const needed = MIGRATIONS.at(-1)?.number ?? 0
  if (applied.length < MIGRATIONS.length) return { type: 'behind', applied: applied.at(-1)?.number ?? 0, needed }
  return { type: 'current', number: needed }
}

/** Resolves when the schema is current. Throws when the database is ahead of this code or an applied migration changed. */
export async function runMigrations(db: Database): Promise<void> {
  await db.transaction({ name: 'migrate', timeoutMs: TIMEOUT_MS }, async (tx) => {
    await tx.query(lock, [LOCK_KEY])
    await tx.query(createHistory, [])
    const applied = await tx.query<AppliedMigration>(readHistory, [])
    const state = judgeMigrations(applied)
    if (state.type === 'ahead') {
      throw new Error(
        `the database has migration ${state.number} (${state.name}), which this version does not know: run a newer version`,
      )
    }
    if (state.type === 'changed') {
      throw new Error(`migration ${state.number} (${state.name}) differs from the one applied`)
    }
    for (const migration of MIGRATIONS.slice(applied.length)) await apply(tx, migration)
  })
}

async function apply(tx: Queryable, migration: Migration): Promise<void> {
  for (const text of migration.statements) await tx.query({ name: '', text, operation: 'other' }, [])
  await tx.query(recordMigration, [migration.number, migration.name, checksumOf(migration)])
}

const checksumOf = (migration: Migration): string =>
  createHash('sha256').update(migration.statements.join('\0')).digest('hex')
