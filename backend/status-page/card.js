// One card of the page: its figures, its plot, and what stood there at the moment under the pointer.

import { byId, span } from './elements.js'
import { createPlot } from './plot.js'
import { ago } from './words.js'

/** @typedef {import('../src/status/status.ts').Status} Status */
/** @typedef {import('./cards.js').Card} Card */

const SPAN_MS = 300_000

/** @param {Card} card */
export function createCard(card) {
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
  /** @type {Status | undefined} */
  let latest
  svg.addEventListener('pointermove', ({ clientX }) => {
    const { left, width } = svg.getBoundingClientRect()
    markedShare = Math.min(1, Math.max(0, (clientX - left) / width))
    if (latest !== undefined) update(latest)
  })
  svg.addEventListener('pointerleave', () => {
    markedShare = undefined
    if (latest !== undefined) update(latest)
  })
  byId(card.size).append(fragment)

  /** @param {Status} status */
  const update = (status) => {
    latest = status
    const { seconds, series } = status
    const lines = card.lines.map(({ name }) => series[name])
    plot.draw({ seconds, lines, spanMs: SPAN_MS, atLeast: card.atLeast })
    figures.replaceChildren(...figuresOf(card, status))
    plot.mark(markedShare)
    note.replaceChildren(
      ...(markedShare === undefined
        ? [span(card.note(status)), span(summaryOf(card, lines.flat()))]
        : momentOf(card, status, markedShare)),
    )
  }
  return { update }
}

/**
 * What the plot comes to. One in which nothing is drawn says so, unless the figure does: it is no plot that failed.
 * @param {Card} card
 * @param {readonly (number | null | undefined)[]} values
 */
function summaryOf(card, values) {
  const highest = Math.max(0, ...values.map((value) => value ?? 0))
  if (highest > 0) return `high ${card.say(highest)}`
  const isEmpty = card.kind === 'bars' || values.every((value) => value == null)
  return isEmpty && card.figure === undefined ? 'nothing in 5 min' : ''
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
