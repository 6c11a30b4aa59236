// The numbers of a device's sessions as only the database knows them, and how long a node takes to act on them.

import { expect } from 'vitest'
import { follow } from '../event-ordering/publishing.ts'
import type { TestDevice } from './account.ts'
import { waitFor } from './open-database.ts'
import type { SessionTarget } from './raw-device.ts'

/** A connection to the database, past the server. */
export interface Sql {
  query(text: string, values?: unknown[]): Promise<{ readonly rows: Record<string, unknown>[] }>
}

export interface SessionNumbers {
  readonly given: number
  /** The highest whose session began. */
  readonly begun: number
}

export async function readSessionNumbers(sql: Sql, { deviceId }: TestDevice): Promise<SessionNumbers> {
  const text = 'select session_number as given, begun_session_number as begun from devices where device_id = $1'
  const [row] = (await sql.query(text, [Buffer.from(deviceId)])).rows
  return { given: Number(row?.['given']), begun: Number(row?.['begun']) }
}

/** How many sessions wait at a locked row for their numbers. In a transaction too, which sees activity as it first was. */
export async function countWaitingForNumbers(sql: Sql): Promise<number> {
  await sql.query('select pg_stat_clear_snapshot()')
  const { rows } = await sql.query(`
    select 1
    from pg_stat_activity
    where datname = current_database() and wait_event_type = 'Lock' and query like '%set session_number%'`)
  return rows.length
}

/**
 * The node has compared its sessions with the database once more from beginning to end: two sessions of the device,
 * one after the other, are confirmed by two sweeps.
 */
export async function untilSwept(target: SessionTarget, sql: Sql, device: TestDevice): Promise<void> {
  for (let sweep = 0; sweep < 2; sweep++) {
    const session = await follow(target, device)
    await waitFor(
      'a sweep',
      () => readSessionNumbers(sql, device),
      ({ given, begun }) => begun === given,
    )
    expect(session.closeFrame).toBeUndefined()
    await session.close()
  }
}
