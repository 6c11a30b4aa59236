// The tables of codes in docs/PROTOCOL.md, made from the registries of the protocol package, which is built first:
//   node scripts/code-tables.mjs            writes them between their markers
//   node scripts/code-tables.mjs --check    exits with code 1 when they are stale
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { root } from './command.mjs'

export const document = join(root, 'docs/PROTOCOL.md')
const begin = '<!-- Made by `node scripts/code-tables.mjs` from the registries; do not edit. -->'
const end = '<!-- End of the tables of codes. -->'

const clientByAction = {
  reconnect_now: ['retryable', 'connects again at once'],
  reconnect: ['retryable', 'connects again with back-off'],
  retry: ['retryable', 'sends the request again, after `retry_after_ms` when it is given'],
  adjust: ['retryable', 'corrects the request as the code says, then goes on'],
  alarm: ['terminal', 'stops and raises an alarm'],
  stop: ['terminal', 'gives the request up'],
}

/** The text of the document with fresh tables. Throws when it has no place for them. */
export function withCodeTables(text, registries) {
  const from = text.indexOf(begin)
  const to = text.indexOf(end)
  if (from === -1 || to < from) throw new Error('docs/PROTOCOL.md has no markers for the tables of codes')
  return `${text.slice(0, from)}${begin}\n\n${renderCodeTables(registries)}\n\n${text.slice(to)}`
}

function renderCodeTables({ ERRORS, HTTP_ERRORS }) {
  const messageRows = Object.entries(ERRORS).map(
    ([code, { close, action, text }]) =>
      `| \`${code}\` | ${close ?? ''} | ${clientColumns(code, action, close !== undefined)} | ${text} |`,
  )
  const httpRows = Object.entries(HTTP_ERRORS).map(
    ([code, { status, port, action, text }]) =>
      `| \`${code}\` | ${status} | ${port} | ${clientColumns(code, action, false)} | ${text} |`,
  )
  return [
    '| code | closes with | kind | the client | meaning |',
    '|---|---|---|---|---|',
    ...messageRows,
    '',
    'HTTP answers on the public and the admin port, refused upgrades among them:',
    '',
    '| code | status | port | kind | the client | meaning |',
    '|---|---|---|---|---|---|',
    ...httpRows,
  ].join('\n')
}

function clientColumns(code, action, isClose) {
  if (isClose && action === 'stop') return 'terminal | stops'
  const columns = clientByAction[action]
  if (columns === undefined) throw new Error(`${code} has an action without words: ${action}`)
  return columns.join(' | ')
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const written = readFileSync(document, 'utf8')
  const fresh = withCodeTables(written, await import('@valise/protocol'))
  if (!process.argv.includes('--check')) writeFileSync(document, fresh)
  else if (fresh !== written) {
    console.error('The tables of codes in docs/PROTOCOL.md are stale. Run `node scripts/code-tables.mjs`.')
    process.exitCode = 1
  }
}
