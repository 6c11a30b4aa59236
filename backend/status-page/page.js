// The status page: asks this server for its numbers each second while somebody looks, and shows them. Everything that
// comes from the server is put in as text.
// More than 300 lines: it is the page from top to bottom, one short function a part of it.

import { createPlot } from './plot.js'
import { ago, bytes, count, duration, milliseconds, percent } from './words.js'

/** @typedef {import('../src/status/status.ts').Status} Status */
/** @typedef {import('../src/status/status.ts').SeriesName} SeriesName */

const INTERVAL_MS = 1000
const TIMEOUT_MS = 4000
const SPAN_MS = 300_000
const MAX_ERROR_ROWS = 12

/**
 * @typedef {object} Card
 * @property {string} title
 * @property {'large' | 'small'} size
 * @property {'lines' | 'bars'} kind
 * @property {readonly { name: SeriesName, label?: string }[]} lines
 * @property {(value: number) => string} say
 * @property {string} [unit] beside a figure that has no label
 * @property {number} atLeast the plot's top is never lower
 * @property {(status: Status) => string} [figure] instead of the lines' present values
 * @property {(status: Status) => string} note
 */

/** @type {readonly Card[]} */
const CARDS = [
  {
    title: 'Connections',
    size: 'large',
    kind: 'lines',
    lines: [{ name: 'connections' }],
    say: count,
    atLeast: 4,
    note: ({ now }) => `${count(now.connections_behind ?? 0)} behind, ${count(now.sockets_paused ?? 0)} not read`,
  },
  {
    title: 'Events',
    size: 'large',
    kind: 'lines',
    lines: [{ name: 'events_per_s' }],
    say: count,
    unit: 'a second',
    atLeast: 4,
    note: ({ total }) => `${count(total.events_stored)} stored in all, ${count(total.events_refused)} refused`,
  },
  {
    title: 'Commit',
    size: 'large',
    kind: 'lines',
    lines: [
      { name: 'commit_p50_ms', label: 'p50' },
      { name: 'commit_p99_ms', label: 'p99' },
    ],
    say: milliseconds,
    atLeast: 4,
    note: () => 'from a batch to its commit',
  },
  {
    title: 'Relay',
    size: 'large',
    kind: 'lines',
    lines: [
      { name: 'relay_p50_ms', label: 'p50' },
      { name: 'relay_p99_ms', label: 'p99' },
    ],
    say: milliseconds,
    atLeast: 1,
    note: () => 'from commit to sockets here',
  },
  {
    title: 'Handshakes',
    size: 'small',
    kind: 'bars',
    lines: [{ name: 'handshakes_per_s' }],
    say: count,
    unit: 'a second',
    atLeast: 2,
    note: ({ total }) => `${count(total.handshakes)} in all`,
  },
  {
    title: 'Queries',
    size: 'small',
    kind: 'lines',
    lines: [{ name: 'queries_per_s' }],
    say: count,
    unit: 'a second',
    atLeast: 4,
    note: ({ now }) => (now.query_p99_ms == null ? '' : `p99 ${milliseconds(now.query_p99_ms)}`),
  },
  {
    title: 'Slow queries',
    size: 'small',
    kind: 'bars',
    lines: [{ name: 'slow_queries' }],
    say: count,
    atLeast: 1,
    figure: ({ recent }) => count(recent.slow_queries),
    note: ({ total, now }) => `${count(total.slow_queries)} in all, ${count(now.pool_waiting ?? 0)} waiting`,
  },
  {
    title: 'Key rotations',
    size: 'small',
    kind: 'bars',
    lines: [{ name: 'rotations' }],
    say: count,
    atLeast: 2,
    figure: ({ recent }) => count(recent.rotations),
    note: ({ total }) => `${count(total.rotations)} in all`,
  },
  {
    title: 'Replays',
    size: 'small',
    kind: 'bars',
    lines: [{ name: 'replays' }],
    say: count,
    atLeast: 2,
    figure: ({ recent }) => count(recent.replays),
    note: ({ total }) => `${count(total.replays)} in all, ${count(total.catch_ups)} caught up`,
  },
  {
    title: 'Longest stall',
    size: 'small',
    kind: 'lines',
    lines: [{ name: 'lag_ms' }],
    say: milliseconds,
    atLeast: 20,
    note: () => 'of the event loop',
  },
  {
    title: 'CPU',
    size: 'small',
    kind: 'lines',
    lines: [{ name: 'cpu_share' }],
    say: percent,
    atLeast: 0.25,
    note: () => '100 % is one core',
  },
  {
    title: 'Memory',
    size: 'small',
    kind: 'lines',
    lines: [{ name: 'rss_bytes' }],
    say: bytes,
    atLeast: 1,
    note: ({ now }) => `${bytes((now.intake_buffered_bytes ?? 0) + (now.send_buffered_bytes ?? 0))} buffered`,
  },
]

const views = CARDS.map(createCard)
/** @type {{ status: Status, receivedAtMs: number } | undefined} */
let latest

/** @param {Card} card */
function createCard(card) {
  const template = /** @type {HTMLTemplateElement} */ (byId('card'))
  const fragment = /** @type {DocumentFragment} */ (template.content.cloneNode(true))
  const heading = /** @type {HTMLElement} */ (fragment.querySelector('h2'))
  const figures = /** @type {HTMLElement} */ (fragment.querySelector('.figures'))
  const note = /** @type {HTMLElement} */ (fragment.querySelector('.note'))
  const svg = /** @type {SVGSVGElement} */ (fragment.querySelector('svg'))
  heading.textContent = card.title
  svg.setAttribute('aria-label', `${card.title}, the last five minutes`)
  figures.dataset['figure'] = card.lines[0]?.name ?? ''
  const plot = createPlot(svg, { kind: card.kind, lineCount: card.lines.length })
  /** @type {number | undefined} */
  let markedShare
  svg.addEventListener('pointermove', ({ clientX }) => {
    const { left, width } = svg.getBoundingClientRect()
    markedShare = Math.min(1, Math.max(0, (clientX - left) / width))
    if (latest !== undefined) update(latest.status)
  })
  svg.addEventListener('pointerleave', () => {
    markedShare = undefined
    if (latest !== undefined) update(latest.status)
  })
  byId(card.size).append(fragment)

  /** @param {Status} status */
  const update = (status) => {
    const { seconds, series } = status
    const lines = card.lines.map(({ name }) => series[name])
    plot.draw({ seconds, lines, spanMs: SPAN_MS, atLeast: card.atLeast })
    figures.replaceChildren(...figuresOf(card, status))
    plot.mark(markedShare)
    const highest = Math.max(0, ...lines.flat().map((value) => value ?? 0))
    note.replaceChildren(
      ...(markedShare === undefined
        ? [span(card.note(status)), span(highest > 0 ? `high ${card.say(highest)}` : '')]
        : momentOf(card, status, markedShare)),
    )
  }
  return { update }
}

/**
 * @param {Card} card
 * @param {Status} status
 */
function figuresOf(card, status) {
  if (card.figure !== undefined) return [figure(card.figure(status), 'in 5 min')]
  return card.lines.map(({ name, label }) => {
    const value = status.now[name]
    const shown = figure(value == null ? '–' : card.say(value), label ?? card.unit ?? '')
    if (label !== undefined) shown.querySelector('small')?.prepend(span('', 'key'))
    return shown
  })
}

/**
 * @param {string} text
 * @param {string} label
 */
function figure(text, label) {
  const element = span('', 'figure')
  element.append(text, ' ')
  if (label === '') return element
  const small = document.createElement('small')
  small.textContent = label
  element.append(small)
  return element
}

/**
 * What the plot shows under the pointer.
 * @param {Card} card
 * @param {Status} status
 * @param {number} share
 */
function momentOf(card, { seconds, series }, share) {
  const end = seconds.at(-1) ?? 0
  const at = end - (1 - share) * SPAN_MS
  const index = seconds.findIndex((second) => second >= at - 500)
  const second = seconds[index]
  if (second === undefined || second > at + 1500) return [span('before this server began')]
  const values = card.lines.map(({ name, label }) => {
    const value = series[name]?.[index]
    return `${label === undefined ? '' : `${label} `}${value == null ? '–' : card.say(value)}`
  })
  return [span(values.join(', ')), span(ago(end - second))]
}

/**
 * @param {string} text
 * @param {string} [className]
 */
function span(text, className) {
  const element = document.createElement('span')
  element.textContent = text
  if (className !== undefined) element.className = className
  return element
}

/** @param {string} id */
function byId(id) {
  const element = document.getElementById(id)
  if (element === null) throw new Error(`the page has no ${id}`)
  return element
}

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
  for (const { update } of views) update(status)
  showErrors(status)
}

const KINDS = { handshake: 'handshake', event: 'event refused', close: 'closed', limit: 'limit', query: 'database' }

/** @param {Status} status */
function showErrors({ errors, now_ms }) {
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
