// What went wrong, by code: a table, or a word that there is nothing.

import { byId, span } from './elements.js'
import { ago, count } from './words.js'

/** @typedef {import('../src/status/status.ts').Status} Status */

const MAX_ERROR_ROWS = 12
const KINDS = { handshake: 'handshake', event: 'event refused', close: 'closed', limit: 'limit', query: 'database' }

/** @param {Status} status */
export function showErrors({ errors, now_ms }) {
  byId('no-errors').hidden = errors.length > 0
  byId('errors').hidden = errors.length === 0
  const rows = errors.slice(0, MAX_ERROR_ROWS).map(({ kind, code, text, recent, total, last_ms }) => {
    const row = document.createElement('tr')
    const first = cell('', '')
    const name = document.createElement('code')
    name.textContent = code
    first.append(name, ' ', span(KINDS[kind], 'kind'), span(text, 'meaning'))
    row.append(
      first,
      cell(text, 'wide'),
      cell(count(recent), 'number'),
      cell(count(total), 'number total'),
      cell(last_ms === null ? '–' : ago(now_ms - last_ms), 'number'),
    )
    return row
  })
  byId('errors')
    .querySelector('tbody')
    ?.replaceChildren(...rows)
}

/**
 * @param {string} text
 * @param {string} className
 */
function cell(text, className) {
  const element = document.createElement('td')
  element.textContent = text
  element.className = className
  return element
}
