// What belongs to the database as a whole: the log epoch, 16 random bytes made with the schema, and when it began. A client whose cursor
// is of another log epoch (a backup was put back) stops and says so instead of missing events.

import type { Queryable, Statement } from '../postgres.ts'

const read: Statement = {
  name: 'read_log_epoch',
  text: "select s.log_epoch, (date_part('epoch', s.log_epoch_at) * 1000)::bigint as at_ms from server_state as s",
}

export interface LogEpochRow {
  readonly id: Uint8Array
  /** Unix milliseconds, by the database's clock. */
  readonly beganAtMs: number
}

export async function readLogEpoch(db: Queryable): Promise<LogEpochRow> {
  const [row] = await db.query<{ log_epoch: Uint8Array; at_ms: number }>(read, [])
  if (row === undefined) throw new Error('the database has no log epoch: its migrations did not run')
  return { id: row.log_epoch, beganAtMs: row.at_ms }
}

const change: Statement = {
  name: 'change_log_epoch',
  text: `
    update server_state as s
    set log_epoch = uuid_send(gen_random_uuid()), log_epoch_at = now()
    where s.is_only_row
    returning s.log_epoch`,
}

/** The log is another one from now on. Resolves to its epoch. */
export async function changeLogEpoch(db: Queryable): Promise<Uint8Array> {
  const [row] = await db.query<{ log_epoch: Uint8Array }>(change, [])
  if (row === undefined) throw new Error('the database has no log epoch: its migrations did not run')
  return row.log_epoch
}

const readSize: Statement = {
  name: 'read_database_size',
  text: 'select pg_database_size(current_database()) as bytes',
}

/** Bytes on the disk of the database's server, indexes included. */
export async function readDatabaseBytes(db: Queryable): Promise<number> {
  const [row] = await db.query<{ bytes: number }>(readSize, [])
  return row?.bytes ?? 0
}

const keepNoSegments: Statement = { name: 'keep_no_wal_segments', text: 'set wal_recycle = off' }
const checkpoint: Statement = { name: 'checkpoint', text: 'checkpoint' }
const keepSegments: Statement = { name: 'keep_wal_segments', text: 'reset wal_recycle' }

/**
 * Removes the write-ahead log that is needed no longer; a checkpoint alone would keep its files for later. For a database
 * with one connection, whose checkpoints run in it.
 */
export async function releaseWal(db: Queryable): Promise<void> {
  await db.query(keepNoSegments, [])
  try {
    await db.query(checkpoint, [])
  } finally {
    await db.query(keepSegments, [])
  }
}
