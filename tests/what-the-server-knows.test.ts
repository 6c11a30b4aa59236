// docs/WHAT_THE_SERVER_KNOWS.md against the schema, both ways: a column that nobody explained fails here, and so does a row
// about one that is gone.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

const root = join(import.meta.dirname, '..')
const read = (file: string): string => readFileSync(join(root, file), 'utf8')

/** `table.column`, in the order of the schema. */
function columnsOf(schema: string): string[] {
  const tables = [...schema.matchAll(/^create table (\w+) \(\n([\s\S]*?)\n\)/gm)]
  return tables.flatMap(([, table, body = '']) =>
    body
      .split('\n')
      .map((line) => line.trim().split(' ')[0] ?? '')
      .filter((name) => name !== 'constraint')
      .map((name) => `${table}.${name}`),
  )
}

const page = read('docs/WHAT_THE_SERVER_KNOWS.md')
const rows = [...page.matchAll(/^\| `([a-z_]+\.[a-z_]+)` \|(.*)\|$/gm)].map(([, column = '', cells = '']) => ({
  column,
  cells: cells.split(' | ').map((cell) => cell.trim()),
}))

describe('OPS-3: what the server knows', () => {
  it('OPS-3: every column of the schema stands in the page once, and no other', () => {
    const columns = columnsOf(read('backend/src/db/schema.sql'))
    expect(columns.length).toBeGreaterThan(100)
    expect(rows.map(({ column }) => column).sort()).toEqual([...columns].sort())
  })

  it('OPS-3: every row says what the column tells, how long it stays and who sees it', () => {
    for (const { column, cells } of rows) {
      expect(cells, column).toHaveLength(3)
      for (const cell of cells) expect(cell, column).not.toBe('')
    }
  })

  it('OPS-3: what holds an address is marked', () => {
    const withAddress = rows.filter(({ column }) => /address$/.test(column)).map(({ cells }) => cells[0])
    expect(withAddress.length).toBeGreaterThan(0)
    for (const told of withAddress) expect(told).toContain('**network address**')
  })

  it('OPS-3: a schema with one column more is noticed', () => {
    const schema =
      'create table users (\n  user_id bytea not null,\n  secret text,\n  constraint p PRIMARY KEY (user_id)\n);\n'
    expect(columnsOf(schema)).toEqual(['users.user_id', 'users.secret'])
  })
})
