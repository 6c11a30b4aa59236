// The one registry of the codes in HTTP answers, each with its status: the public port, the refused upgrades, and the
// admin port. The server answers no other code; the table in docs/PROTOCOL.md comes from it. Codes never change.

import type { ClientAction } from './errors.ts'

export interface HttpErrorEntry {
  readonly status: number
  readonly port: 'public' | 'admin' | 'both'
  /** Of a Valise client. On the admin port, of the command that asked. */
  readonly action: Extract<ClientAction, 'reconnect' | 'retry' | 'stop'>
  readonly text: string
}

export const HTTP_ERRORS = {
  // Before anything of the request is read, an upgrade to WebSocket among them.
  rate_limited: { status: 429, port: 'public', action: 'retry', text: 'Too many requests from this address' },
  server_overloaded: {
    status: 503,
    port: 'public',
    action: 'reconnect',
    text: 'This node has no room for a connection',
  },
  server_draining: { status: 503, port: 'public', action: 'reconnect', text: 'This node is stopping' },
  unknown_host: { status: 403, port: 'both', action: 'stop', text: 'The port does not answer under this Host' },
  foreign_origin: { status: 403, port: 'both', action: 'stop', text: 'A page of this origin may not use the port' },

  // Any request.
  not_found: { status: 404, port: 'both', action: 'stop', text: 'There is nothing at this path' },
  method_not_allowed: { status: 405, port: 'both', action: 'stop', text: 'The path takes another method' },
  invalid_wait: { status: 400, port: 'public', action: 'stop', text: '`wait_s` is out of range' },
  invalid_after: { status: 400, port: 'public', action: 'stop', text: '`after` is no fingerprint of a server key' },
  unavailable: {
    status: 503,
    port: 'public',
    action: 'retry',
    text: 'The server could not answer; nothing was stored',
  },

  // Linking by hand.
  mailbox_slot_empty: { status: 404, port: 'public', action: 'retry', text: 'The other device has not written yet' },
  mailbox_slot_taken: { status: 409, port: 'public', action: 'stop', text: 'The slot holds a message already' },
  mailbox_message_late: { status: 408, port: 'public', action: 'stop', text: 'The body took too long to arrive' },
  mailbox_message_size: { status: 413, port: 'public', action: 'stop', text: 'The body is empty or too large' },
  mailboxes_full: { status: 429, port: 'public', action: 'stop', text: 'Too many mailboxes are open; try again later' },

  // Pairing.
  pairing_slot_empty: { status: 404, port: 'public', action: 'retry', text: 'The other device has not written yet' },
  pairing_slot_taken: { status: 409, port: 'public', action: 'stop', text: 'The slot holds another message already' },
  pairing_message_late: { status: 408, port: 'public', action: 'stop', text: 'The body took too long to arrive' },
  pairing_message_size: { status: 413, port: 'public', action: 'stop', text: 'The body is empty or too large' },
  pairing_taken: { status: 409, port: 'public', action: 'stop', text: 'The mailbox exists, or its seat is taken' },
  pairing_not_found: { status: 404, port: 'public', action: 'stop', text: 'No such pairing, or it is over' },
  pairing_not_yours: { status: 403, port: 'public', action: 'stop', text: 'The key of a seat is missing or wrong' },
  pairing_ended: { status: 410, port: 'public', action: 'stop', text: 'The other device ended the pairing' },
  pairing_failed: { status: 410, port: 'public', action: 'stop', text: 'The pairing failed and is destroyed' },
  pairing_evicted: {
    status: 410,
    port: 'public',
    action: 'stop',
    text: 'The server had no place left for the pairing',
  },
  invalid_reason: { status: 400, port: 'public', action: 'stop', text: '`reason` is neither `failed` nor `ended`' },

  // The admin port.
  not_local: { status: 403, port: 'admin', action: 'stop', text: 'The request comes from another machine' },
  not_a_command: { status: 403, port: 'admin', action: 'stop', text: 'The request comes from a web page' },
  bad_content_type: { status: 415, port: 'admin', action: 'stop', text: 'The body is not JSON' },
  bad_token: { status: 401, port: 'admin', action: 'stop', text: 'The token is missing or wrong' },
  body_late: { status: 408, port: 'admin', action: 'stop', text: 'The body took too long to arrive' },
  body_too_long: { status: 413, port: 'admin', action: 'stop', text: 'The body is too large' },
  unknown_command: { status: 404, port: 'admin', action: 'stop', text: 'This version has no such command' },
  bad_input: { status: 400, port: 'admin', action: 'stop', text: 'A field of the input cannot be used' },
} as const satisfies Record<string, HttpErrorEntry>

export type HttpErrorCode = keyof typeof HTTP_ERRORS
