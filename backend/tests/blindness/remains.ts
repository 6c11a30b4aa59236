// Everything a server leaves behind: every value of every table, the files of its data folder.

import { readdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { openPglite } from '../../src/db/pglite.ts'
import { type Database, openPostgres } from '../../src/db/postgres.ts'
import { createCapturedParts } from '../support/open-database.ts'
import type { TestServer } from '../support/server.ts'

export const dataFolderOf = (server: TestServer): string => dirname(server.identityFile)

/** The server must be stopped when its database is in its folder. */
export async function dumpTables(server: TestServer): Promise<Map<string, Uint8Array[]>> {
  const { parts } = createCapturedParts()
  const db: Database =
    server.databaseUrl === undefined
      ? await openPglite({ ...parts, dataDir: join(dataFolderOf(server), 'database') })
      : await openPostgres({ ...parts, url: server.databaseUrl, poolSize: 2 })
  try {
    const names = await db.query<{ name: string }>(
      { name: '', text: `select tablename as name from pg_tables where schemaname = 'public'` },
      [],
    )
    const values = new Map<string, Uint8Array[]>()
    for (const { name } of names) {
      const rows = await db.query<Record<string, unknown>>({ name: '', text: `select * from "${name}"` }, [])
      const cells = rows.flatMap((row) => Object.values(row))
      values.set(
        `table ${name}`,
        cells.map((cell) => (cell instanceof Uint8Array ? cell : Buffer.from(JSON.stringify(cell) ?? ''))),
      )
    }
    return values
  } finally {
    await db.close()
  }
}

export async function readFolder(folder: string): Promise<Uint8Array[]> {
  const files = await readdir(folder, { recursive: true, withFileTypes: true })
  return Promise.all(files.filter((file) => file.isFile()).map((file) => readFile(join(file.parentPath, file.name))))
}
