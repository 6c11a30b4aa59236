// Looks from beside the server at how many entries its device logs have.

import pg from 'pg'

export interface LogCounter {
  /** Of all users together, committed by now. */
  entries(): Promise<number>
  close(): Promise<void>
}

export async function openLogCounter(databaseUrl: string): Promise<LogCounter> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  return {
    entries: async () => Number((await client.query('select count(*) as entries from device_log')).rows[0].entries),
    close: () => client.end(),
  }
}
