// The status page: asks this server for its numbers each second while somebody looks, and shows them.

import { createCard } from './card.js'
import { CARDS } from './cards.js'
import { byId, span } from './elements.js'
import { showErrors } from './errors.js'
import { duration } from './words.js'

/** @typedef {import('../src/status/status.ts').Status} Status */

const INTERVAL_MS = 1000
const TIMEOUT_MS = 4000

const cards = CARDS.map(createCard)
/** @type {{ status: Status, receivedAtMs: number } | undefined} */
let latest

const STATE_TEXTS = { ready: 'Ready', noted: 'Ready, with a remark', not_ready: 'Not ready', away: 'No answer' }

/** @param {keyof typeof STATE_TEXTS} state */
function showState(state) {
  const element = byId('state')
  document.body.dataset['state'] = state
  if (element.dataset['state'] === state) return
  element.dataset['state'] = state
  element.textContent = STATE_TEXTS[state]
  document.title = `${STATE_TEXTS[state]} · Valise`
}

/** @param {readonly { text: string, isProblem: boolean }[]} remarks */
function showRemarks(remarks) {
  byId('remarks').replaceChildren(
    ...remarks.map(({ text, isProblem }) => {
      const item = document.createElement('li')
      item.textContent = text
      if (isProblem) item.className = 'problem'
      return item
    }),
  )
}

const DATABASES = { postgres: 'PostgreSQL', pglite: 'embedded database' }
const BUSES = { redis: 'Redis', local: 'bus in the process' }

/** @param {Status} status */
function show(status) {
  const { server, now_ms, readiness } = status
  showState(!readiness.is_ready ? 'not_ready' : readiness.notes.length > 0 ? 'noted' : 'ready')
  showRemarks([
    ...readiness.problems.map((text) => ({ text, isProblem: true })),
    ...readiness.notes.map((text) => ({ text, isProblem: false })),
  ])
  const facts = [
    `up ${duration(now_ms - server.started_at_ms)}`,
    `version ${server.version}`,
    DATABASES[server.database],
    BUSES[server.bus],
  ]
  const fingerprint = document.createElement('code')
  fingerprint.textContent = server.fingerprint
  byId('facts').replaceChildren(...facts.map((text) => span(text)), fingerprint)
  for (const { update } of cards) update(status)
  showErrors(status)
}

function showAway() {
  const since = latest === undefined ? '' : ` for ${duration(performance.now() - latest.receivedAtMs)}`
  showState('away')
  showRemarks([{ text: `This server has not answered${since}. What is below is what it said last.`, isProblem: true }])
}

async function look() {
  if (!document.hidden) {
    try {
      const response = await fetch('status.json', { signal: AbortSignal.timeout(TIMEOUT_MS), cache: 'no-store' })
      if (!response.ok) throw new Error(`the server answered ${response.status}`)
      latest = { status: await response.json(), receivedAtMs: performance.now() }
      show(latest.status)
    } catch {
      showAway()
    }
  }
  setTimeout(look, INTERVAL_MS)
}

void look()
