// The published test vectors that stand in the repository: figures only, unaltered, and every test reads these alone.
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { digestsFile, figuresFolder, isFigure, makeFigures, sha256, vectorsFolder } from '../scripts/vector-figures.mjs'

const read = (name: string): string => readFileSync(join(figuresFolder, name), 'utf8')
const stored = new Map(readdirSync(figuresFolder).map((name) => [name, read(name)]))

describe('the figures of published test vectors', () => {
  it('HOUSE-7: are those that the script makes, or where the published files are missing those of the stored digests', () => {
    const digests: Record<string, string> = JSON.parse(read(digestsFile))
    const files = [...stored].filter(([name]) => name !== digestsFile)
    expect(Object.fromEntries(files.map(([name, text]) => [name, sha256(text)]))).toEqual(digests)
    const made: Map<string, string> = existsSync(vectorsFolder) ? makeFigures(vectorsFolder) : stored
    expect([...stored.keys()].sort()).toEqual([...made.keys()].sort())
    for (const [name, text] of made) expect(stored.get(name) === text, name).toBe(true)
  })

  it('HOUSE-7: hold numbers and validity, no prose', () => {
    const sets = [...stored.keys()].filter((name) => name.endsWith('.json') && name !== digestsFile)
    expect(sets).toHaveLength(10)
    for (const name of sets) {
      const { source, licence, columns, rows, ...rest } = JSON.parse(read(name))
      expect([typeof source, typeof licence, Object.keys(rest)], name).toEqual(['string', 'string', []])
      expect(
        rows.flat().filter((value: unknown) => !isFigure(value)),
        name,
      ).toEqual([])
      expect(
        rows.every((row: unknown[]) => row.length === columns.length),
        name,
      ).toBe(true)
    }
    expect(['Invalid tag', 'EdgeCase', 'abc', null, undefined, 1.5].filter(isFigure)).toEqual([])
  })

  it('HOUSE-8: no file of the repository but the script that makes them looks beside the repository', () => {
    // `git grep` gives 1 when nothing matches; the pattern is put together so that this file is no match.
    const pattern = ['\\.\\./', 'shared/|VALISE_', 'VECTORS'].join('')
    const found = execFileSync('git', ['grep', '-lE', '--untracked', pattern], { cwd: join(figuresFolder, '../../..') })
    expect(found.toString().trim().split('\n')).toEqual(['scripts/vector-figures.mjs'])
  })
})
