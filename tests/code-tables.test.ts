// The tables of codes in docs/PROTOCOL.md against the registries, and the registry of HTTP codes against what answers.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { ERRORS, HTTP_ERRORS } from '@valise/protocol'
import { describe, expect, it } from 'vitest'
import { document, withCodeTables } from '../scripts/code-tables.mjs'

const registries = { ERRORS, HTTP_ERRORS }
const sources = join(import.meta.dirname, '../backend/src')
const answering = [
  'gateway/refuse-upgrade.ts',
  ...readdirSync(join(sources, 'http')).map((name) => `http/${name}`),
].map((name) => ({ name, text: readFileSync(join(sources, name), 'utf8') }))

describe('the tables of codes', () => {
  it('DOC-2: are those of the registries', () => {
    const text = readFileSync(document, 'utf8')
    expect(withCodeTables(text, registries)).toBe(text)
  })

  it('DOC-2: a code that is new, gone or changed makes them stale', () => {
    const text = readFileSync(document, 'utf8')
    const { not_found: _gone, ...fewer } = HTTP_ERRORS
    const changed = { ...HTTP_ERRORS, not_found: { ...HTTP_ERRORS.not_found, status: 410 } }
    const added = { ...ERRORS, new_code: { action: 'retry', text: 'New' } }
    for (const other of [{ HTTP_ERRORS: fewer }, { HTTP_ERRORS: changed }, { ERRORS: added }]) {
      expect(withCodeTables(text, { ...registries, ...other })).not.toBe(text)
    }
    expect(() => withCodeTables('no markers', registries)).toThrow('markers')
    expect(() => withCodeTables(text, { ...registries, ERRORS: { odd: { action: 'odd', text: '' } } })).toThrow('odd')
  })

  it('DOC-3: a refusal over HTTP takes its status from the registry, and every code of it is answered somewhere', () => {
    const withStatus = answering.filter(({ text }) => /\b4\d\d\b/.test(text)).map(({ name }) => name)
    expect(withStatus).toEqual([])
    const all = answering.map(({ text }) => text).join('\n')
    const server = readFileSync(join(sources, 'gateway/websocket.ts'), 'utf8')
    const unused = Object.keys(HTTP_ERRORS).filter((code) => !`${all}${server}`.includes(`'${code}'`))
    expect(unused).toEqual([])
  })
})
