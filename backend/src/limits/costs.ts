// What each thing that a peer can ask for costs a node, in microseconds of its time (its own and the database's). Total
// tables: a message or a route without a cost does not compile. The numbers come from `npm run bench -- abuse` and the query
// durations of a quiet node; their proportions matter, not their exactness.

import type { ClientMessage } from '@valise/protocol'

export type Microseconds = number

/** Opening a frame, whatever is in it; and more for each KiB of it. */
const FRAME = 15
const FRAME_KIB = 3

export const frameCost = (bytes: number): Microseconds => FRAME + Math.floor(bytes / 1024) * FRAME_KIB

/** Reading a message, answering it, and what the database does for it. */
export const MESSAGE_COSTS: Readonly<Record<ClientMessage['type'], Microseconds>> = {
  // Its events are counted by their own limits (LIM-1).
  publish: 20,
  ack: 10,
  ping: 20,
  pong: 10,
  resume: 1500,
  fetch_device_log: 1500,
  fetch_envelopes: 1500,
  append_device_log: 4000,
  open_pairing: 3000,
  register: 6000,
}

/** Of a key exchange, two signatures, and a look at the device. */
export const HANDSHAKE_COST: Microseconds = 1500

/** A frame that does not parse, or a message that does not fit its schema. */
export const INVALID_COST: Microseconds = 500

/**
 * For a session that is closed because of what its peer sent: no honest client sends it, and one that does comes again with
 * another handshake.
 */
export const MISCONDUCT_COST: Microseconds = 100_000

export const ROUTES = ['identity', 'key_changes', 'pairing_page', 'pairing', 'mailbox', 'unknown'] as const
export type Route = (typeof ROUTES)[number]

export const ROUTE_COSTS: Readonly<Record<Route, Microseconds>> = {
  identity: 150,
  key_changes: 800,
  pairing_page: 150,
  pairing: 2500,
  mailbox: 2000,
  unknown: 150,
}
