// The events of the log: their names have the form area.noun.verb, and docs/LOGS.md tells what each means.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './command.mjs'

const form = /^[a-z]+\.[a-z_]+\.[a-z_]+$/
const inSource = /\b\w*[lL]og(?:ger)?\.(?:debug|info|warn|error)\(\s*\{\s*event: '([^']*)'/g
/** A name that is put together could not be looked up here, nor by who reads the log. */
const putTogether = /\b\w*[lL]og(?:ger)?\.(?:debug|info|warn|error)\(\s*\{\s*event: (`[^`]*`)/g
const inTable = /^\| `([^`]*)` \|/gm

/** One sentence for each fault. */
export function findLogEventFaults(folder = root) {
  const sources = readdirSync(join(folder, 'backend/src'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => readFileSync(join(folder, 'backend/src', name), 'utf8'))
  return judgeLogEvents(sources, readFileSync(join(folder, 'docs/LOGS.md'), 'utf8'))
}

export function judgeLogEvents(sources, document) {
  const named = new Set(sources.flatMap((text) => [...text.matchAll(inSource)].map(([, name]) => name)))
  const told = new Set([...document.matchAll(inTable)].map(([, name]) => name))
  return [
    ...sources
      .flatMap((text) => [...text.matchAll(putTogether)])
      .map(([, name]) => `a log event is named by a template: ${name}`),
    ...[...named].filter((name) => !form.test(name)).map((name) => `the log event ${name} is not area.noun.verb`),
    ...[...named]
      .filter((name) => !told.has(name))
      .map((name) => `docs/LOGS.md does not tell of the log event ${name}`),
    ...[...told].filter((name) => !named.has(name)).map((name) => `docs/LOGS.md tells of ${name}, which nothing logs`),
  ]
}
