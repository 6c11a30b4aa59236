// The table of variables in docs/CONFIGURATION.md against the program, both ways. It is written by
// `VALISE_UPDATE_TABLES=1 npx vitest run tests/configuration-page.test.ts`.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { variableMeanings } from '@valise/backend'
import { expect, it } from 'vitest'

const file = join(import.meta.dirname, '../docs/CONFIGURATION.md')
const isRow = (line: string): boolean => /^\| `[A-Z_]+` \|/.test(line)

it('DOC-1: the table of variables is the one the server reads, with its defaults and meanings', () => {
  const rows = [...variableMeanings()].map(
    ([name, { fallback, meaning }]) =>
      `| \`${name}\` | ${fallback === undefined ? '' : `\`${fallback}\``} | ${meaning} |`,
  )
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n')
  if (process.env['VALISE_UPDATE_TABLES'] === '1') {
    writeFileSync(file, `${[...lines.filter((line) => !isRow(line)), ...rows].join('\n')}\n`)
    return
  }
  expect(lines.filter(isRow)).toEqual(rows)
})
