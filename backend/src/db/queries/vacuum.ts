// What PostgreSQL does by itself and the embedded database does not: makes the room of dead rows free for new ones.

import type { Queryable, Statement } from '../postgres.ts'

// Of all tables: those of the catalog and of mailboxes have dead rows, too, and cost next to nothing.
const vacuum: Statement = { name: 'vacuum', text: 'vacuum' }

/** Every other statement of the embedded database waits until it is done. */
export async function vacuumDatabase(db: Queryable): Promise<void> {
  await db.query(vacuum, [])
}
