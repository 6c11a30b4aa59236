// The README's table of variables against the program's own, both ways.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { variableMeanings } from '@valise/backend'
import { expect, it } from 'vitest'

const readme = readFileSync(join(import.meta.dirname, '../README.md'), 'utf8')

it('DOC-1: the table of variables is the one the server reads, with its defaults and meanings', () => {
  const rows = [...variableMeanings()].map(
    ([name, { fallback, meaning }]) =>
      `| \`${name}\` | ${fallback === undefined ? '' : `\`${fallback}\``} | ${meaning} |`,
  )
  const written = readme.split('\n').filter((line) => /^\| `[A-Z_]+` \|/.test(line))
  expect(written.map(withoutSpaces)).toEqual(rows.map(withoutSpaces))
})

const withoutSpaces = (row: string): string => row.replace(/\s+/g, ' ')
