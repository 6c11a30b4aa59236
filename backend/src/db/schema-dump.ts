// The schema as text, read from the catalog: the same on PostgreSQL 15 and newer and on the embedded database.
// `schema.sql` beside this file is this text, and a test fails when it is not.

import type { Queryable, Statement } from './postgres.ts'

// NOT NULL is shown with the column: newer versions also list it among the constraints.
const readTables: Statement = {
  name: '',
  text: `
    select
      c.relname as name,
      array_to_string(c.reloptions, ', ') as options,
      (
        select string_agg(
          concat_ws(
            ' ',
            a.attname,
            format_type(a.atttypid, a.atttypmod),
            case a.attstorage when 'e' then 'storage external' end,
            case when a.attnotnull then 'not null' end,
            'default ' || pg_get_expr(d.adbin, d.adrelid)
          ),
          E',\\n  ' order by a.attnum
        )
        from pg_attribute as a
        left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      ) as columns,
      (
        select string_agg(
          'constraint ' || k.conname || ' ' || pg_get_constraintdef(k.oid),
          E',\\n  ' order by k.contype = 'p' desc, k.conname
        )
        from pg_constraint as k
        where k.conrelid = c.oid and k.contype in ('p', 'u', 'c', 'f')
      ) as constraints,
      (
        select string_agg(pg_get_indexdef(i.indexrelid) || ';', E'\\n' order by i.indexrelid::regclass::text)
        from pg_index as i
        where
          i.indrelid = c.oid
          and not exists (select 1 from pg_constraint as k where k.conindid = i.indexrelid and k.contype in ('p', 'u'))
      ) as indexes
    from pg_class as c
    where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace
    order by c.relname`,
}

const readFunctions: Statement = {
  name: '',
  text: `
    select pg_get_functiondef(p.oid) as definition
    from pg_proc as p
    where p.pronamespace = 'public'::regnamespace and p.prokind = 'f'
    order by p.proname`,
}

const readTriggers: Statement = {
  name: '',
  text: `
    select pg_get_triggerdef(t.oid) as definition
    from pg_trigger as t
    join pg_class as c on c.oid = t.tgrelid
    where c.relnamespace = 'public'::regnamespace and not t.tgisinternal
    order by c.relname, t.tgname`,
}

interface Table {
  readonly name: string
  readonly options: string | null
  readonly columns: string
  readonly constraints: string | null
  readonly indexes: string | null
}

export async function dumpSchema(db: Queryable): Promise<string> {
  const tables = await db.query<Table>(readTables, [])
  const functions = await db.query<{ definition: string }>(readFunctions, [])
  const triggers = await db.query<{ definition: string }>(readTriggers, [])
  const parts = [
    '-- What the migrations make, as dumpSchema reads it. Do not edit: `VALISE_UPDATE_SCHEMA=1` in the test writes it.',
    ...tables.map(describeTable),
    ...functions.map(({ definition }) => `${definition.trimEnd()};`),
    ...triggers.map(({ definition }) => `${definition};`),
  ]
  return `${parts.join('\n\n')}\n`
}

function describeTable({ name, options, columns, constraints, indexes }: Table): string {
  const body = constraints === null ? columns : `${columns},\n  ${constraints}`
  const settings = options ? ` with (${options})` : ''
  const table = `create table ${name} (\n  ${body}\n)${settings};`
  return indexes === null ? table : `${table}\n${indexes}`
}
