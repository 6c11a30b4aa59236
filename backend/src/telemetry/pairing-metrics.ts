// What is counted of pairing: mailboxes from their opening to their end, and who waits at them.

import type { MetricKinds } from './metric-kinds.ts'

const PAIRING_EVENTS = ['opened', 'joined', 'join_failed', 'failed', 'ended', 'evicted', 'expired', 'limited'] as const
export type PairingEvent = (typeof PAIRING_EVENTS)[number]

export interface PairingMetrics {
  /** `expired`: went by the clock, nobody having ended it. `evicted`: lost its place to an address that held fewer. */
  countPairing(event: PairingEvent, count?: number): void
  /** Where to read, at each scrape, the requests that wait for a message. */
  watchWaits(read: () => number): void
}

export function createPairingMetrics({ counter, watchedGauge }: MetricKinds): PairingMetrics {
  const pairings = counter('valise_pairings_total', 'What became of the mailboxes of pairing devices', {
    event: PAIRING_EVENTS,
  })
  const waits = watchedGauge('valise_mailbox_waits', 'Requests that wait for a message in a mailbox')
  return {
    countPairing: (event, count) => pairings.inc({ event }, count),
    watchWaits: waits.watch,
  }
}
