// The cards of the page, in the order in which they are read: what each shows, and in which words.

import { bytes, count, milliseconds, percent } from './words.js'

/** @typedef {import('../src/status/status.ts').Status} Status */
/** @typedef {import('../src/status/status.ts').SeriesName} SeriesName */

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
export const CARDS = [
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
