// The dump of the schema in the repository is the schema that the migrations make, on both databases.

import { readFile, writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { dumpSchema } from '../src/db/schema-dump.ts'
import { DATABASE_KINDS, type OpenedDatabase, openDatabase } from './support/open-database.ts'

const dumpFile = new URL('../src/db/schema.sql', import.meta.url)

describe.each(DATABASE_KINDS)('schema on %s', (kind) => {
  let opened: OpenedDatabase
  beforeAll(async () => {
    opened = await openDatabase(kind)
  })
  afterAll(() => opened.close())

  const read = <Row extends object>(text: string): Promise<Row[]> => opened.db.query<Row>({ name: '', text }, [])

  test('P8: schema.sql is what the migrations make', async () => {
    const dump = await dumpSchema(opened.db)
    if (process.env['VALISE_UPDATE_SCHEMA'] === '1') await writeFile(dumpFile, dump)
    expect(dump).toBe(await readFile(dumpFile, 'utf8'))
  })

  test('P8: a column, a constraint, an index, a setting or a function that drifts shows in the dump', async () => {
    const dump = await dumpSchema(opened.db)
    const drifts = [
      'alter table users add column note text',
      'alter table users alter column created_at drop not null',
      'alter table invitations drop constraint invitations_hash_length',
      'drop index pairings_expires_at_idx',
      'alter table events alter column wire set storage extended',
      'alter table streams set (fillfactor = 100)',
      'alter function append_events reset all',
      'alter function append_run reset all',
      'drop trigger audit_log_append_only on audit_log',
    ]
    for (const drift of drifts) {
      const undone = new Error('undo')
      const changed = opened.db.transaction({ name: 'test' }, async (tx) => {
        await tx.query({ name: '', text: drift }, [])
        expect(await dumpSchema(tx), drift).not.toBe(dump)
        throw undone
      })
      await expect(changed).rejects.toBe(undone)
    }
    expect(await dumpSchema(opened.db)).toBe(dump)
  })

  test('P8: the primary key of every table of a user begins with user_id', async () => {
    const keys = await read<{ name: string; first_column: string }>(`
      select c.relname as name, a.attname as first_column
      from pg_class as c
      join pg_index as i on i.indrelid = c.oid and i.indisprimary
      join pg_attribute as a on a.attrelid = c.oid and a.attnum = i.indkey[0]
      where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace`)
    const ofNoUser = [
      'invitations',
      'node_secrets',
      'pairing_addresses',
      'pairing_mailboxes',
      'pairing_messages',
      'pairing_rates',
      'pairings',
      'schema_migrations',
      'server_key_changes',
      'server_state',
    ]
    const ofUsers = keys.filter(({ name }) => !ofNoUser.includes(name))
    expect(ofUsers.map(({ name }) => name).sort()).toEqual([
      'audit_log',
      'device_log',
      'devices',
      'displacements',
      'events',
      'key_envelopes',
      'key_epochs',
      'key_links',
      'pairing_openings',
      'pending_closes',
      'streams',
      'user_storage',
      'users',
    ])
    expect(new Set(ofUsers.map(({ first_column }) => first_column))).toEqual(new Set(['user_id']))
  })
})
