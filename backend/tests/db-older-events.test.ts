// A database with events in the form of before: it is refused in words, and nothing in it is changed.

import { createHash, randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { runMigrations } from '../src/db/migrate.ts'
import { initial } from '../src/db/migrations/0001-initial.ts'
import { appendEventsFunction } from '../src/db/migrations/0002-append-events.ts'
import { sessionNumbers } from '../src/db/migrations/0003-session-numbers.ts'
import { invitations } from '../src/db/migrations/0004-invitations.ts'
import { appendRunFunction } from '../src/db/migrations/0005-append-run.ts'
import { auditLogIsAppendOnly } from '../src/db/migrations/0006-audit-log.ts'
import { userStorage } from '../src/db/migrations/0007-user-storage.ts'
import { pairing } from '../src/db/migrations/0008-pairing.ts'
import { confirmedSessions } from '../src/db/migrations/0009-confirmed-sessions.ts'
import { appendFaster } from '../src/db/migrations/0010-append-faster.ts'
import { dumpSchema } from '../src/db/schema-dump.ts'
import { DATABASE_KINDS, openDatabase } from './support/open-database.ts'

const OLDER = [
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
]

describe.each(DATABASE_KINDS)('a database of before on %s', (kind) => {
  const withOlder = async (isFilled: boolean) => {
    const opened = await openDatabase(kind, { isMigrated: false })
    const run = <Row extends object>(text: string, values: readonly unknown[] = []) =>
      opened.db.query<Row>({ name: '', text }, values)
    await run(`create table schema_migrations (
      number integer not null,
      name text not null,
      checksum text not null,
      applied_at timestamptz not null default now(),
      constraint schema_migrations_pkey primary key (number)
    )`)
    for (const { number, name, statements } of OLDER) {
      for (const text of statements) await run(text)
      const checksum = createHash('sha256').update(statements.join('\0')).digest('hex')
      await run('insert into schema_migrations (number, name, checksum) values ($1, $2, $3)', [number, name, checksum])
    }
    const [userId, deviceId] = [randomBytes(32), randomBytes(16)]
    await run('insert into users (user_id, log_seq, log_head, key_epoch, epoch_log_seq) values ($1, 3, $1, 1, 0)', [
      userId,
    ])
    await run(
      `insert into devices (user_id, device_id, ed_pub, role, added_log_seq, last_chain)
       values ($1, $2, $1, 2, 3, $1)`,
      [userId, deviceId],
    )
    if (isFilled) {
      await run(
        `insert into events
           (user_id, user_seq, device_id, device_seq, stream_id, stream_seq, event_id, stored_at, leaf, wire)
         values ($1, 1, $2, 1, $2, 1, $2, now(), $1, $1)`,
        [userId, deviceId],
      )
    }
    return { opened, run }
  }

  test('P8: one with events is refused with what to do, and is as it was', async () => {
    const { opened, run } = await withOlder(true)
    try {
      const before = await dumpSchema(opened.db)
      await expect(runMigrations(opened.db)).rejects.toThrow(/Nothing was changed\. Export them with the version/)
      expect(await dumpSchema(opened.db)).toBe(before)
      expect(await run('select from events')).toHaveLength(1)
      expect(await run('select from schema_migrations')).toHaveLength(OLDER.length)
    } finally {
      await opened.close()
    }
  })

  test('P8, ORD-6: one without events is migrated, and its devices name no entry before their own', async () => {
    const { opened, run } = await withOlder(false)
    try {
      await runMigrations(opened.db)
      expect(await run('select last_log_seq as seq from devices')).toEqual([{ seq: 3 }])
    } finally {
      await opened.close()
    }
  })
})
