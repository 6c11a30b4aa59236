// Rules and tests speak of the same things: every rule that a test title quotes stands in docs/PROTOCOL.md.

import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'

const root = join(import.meta.dirname, '..')
const testFiles = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard', '*.test.ts'], {
  cwd: root,
  encoding: 'utf8',
})
  .split('\n')
  .filter((file) => file !== '' && !file.startsWith('tests/'))

const RULE_AT_TITLE = /['"`]((?:[A-Z]{1,5}-\d+)|P\d)(?=[:, ])/g

describe('HOUSE-6: rules and tests', () => {
  it('HOUSE-6: every rule quoted by a test title stands in docs/PROTOCOL.md', () => {
    const protocol = readFileSync(join(root, 'docs/PROTOCOL.md'), 'utf8')
    const written = new Set([...protocol.matchAll(/^\| ([A-Z]+-\d+|P\d) \|/gm)].map(([, rule]) => rule))
    const quoted = new Map<string, string>()
    for (const file of testFiles) {
      for (const [, rule] of readFileSync(join(root, file), 'utf8').matchAll(RULE_AT_TITLE)) {
        if (rule !== undefined) quoted.set(rule, file)
      }
    }
    expect(quoted.size).toBeGreaterThan(20)
    expect([...quoted].filter(([rule]) => !written.has(rule))).toEqual([])
  })
})
