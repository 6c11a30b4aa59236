// The page of limits and the threat model name variables, metrics, rules and test files: all of them exist.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

const root = join(import.meta.dirname, '..')
const read = (file: string): string => readFileSync(join(root, file), 'utf8')

/** The rows of a document's tables as their cells, without heads and rulers. */
const rowsOf = (file: string): string[][] =>
  read(file)
    .split('\n')
    .filter(
      (line) => line.startsWith('| ') && !line.startsWith('| resource') && !/what (they|it) tr(y|ies) \|/.test(line),
    )
    .map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    )

const quotedIn = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, text]) => text!)

/** Test files that a cell names; a bare name stands in the folder of the one before it. */
const testFilesIn = (cell: string): string[] => {
  let folder = ''
  return quotedIn(cell)
    .filter((text) => /\.(test\.)?ts$/.test(text))
    .map((text) => {
      if (text.includes('/')) folder = text.slice(0, text.lastIndexOf('/') + 1)
      return text.includes('/') ? text : folder + text
    })
}

describe('HOUSE-9: the pages that name bounds and tests', () => {
  it('HOUSE-9: every limit names a variable and a metric that exist', () => {
    const variables = read('backend/src/config-variables.ts')
    const metrics = read('docs/OPERATIONS.md')
    const rows = rowsOf('docs/LIMITS.md')
    expect(rows.length).toBeGreaterThan(10)
    const wrong = rows.flatMap(([, , bound = '', , metric = '']) => [
      ...quotedIn(bound).filter((name) => name.startsWith('VALISE_') && !variables.includes(`  ${name}: {`)),
      ...quotedIn(metric).filter((name) => !metrics.includes(`| \`${name}\` |`)),
    ])
    expect(wrong).toEqual([])
  })

  it('HOUSE-9: every limit names a test file that quotes its rule', () => {
    const faults = rowsOf('docs/LIMITS.md').flatMap(([resource = '', , , , , test = '']) => {
      const files = testFilesIn(test)
      const rules = [...test.matchAll(/\b([A-Z]{3,5}-\d+|P\d)\b/g)].map(([, rule]) => rule!)
      if (files.length === 0 || rules.length === 0) return [`${resource}: names no test or no rule`]
      const texts = files.map((file) => (existsSync(join(root, file)) ? read(file) : ''))
      return rules.filter((rule) => !texts.some((text) => text.includes(rule))).map((rule) => `${resource}: ${rule}`)
    })
    expect(faults).toEqual([])
  })

  it('HOUSE-9: every test file that the threat model names is there', () => {
    const named = rowsOf('docs/THREAT_MODEL.md').flatMap((cells) => cells.flatMap(testFilesIn))
    expect(named.length).toBeGreaterThan(40)
    expect(named.filter((file) => !existsSync(join(root, file)))).toEqual([])
  })
})
