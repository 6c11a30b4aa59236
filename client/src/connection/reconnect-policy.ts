// What follows the end of a session, by the error registry: stop for good, come back at once, or come back later. Pure.

import { type ErrorCode, errorEntry } from '@valise/protocol'
import { createAlarm, refusedFor, type StopCause } from '../alarm.ts'
import { type ConnectProblem, describeConnectProblem } from '../connect-problem.ts'
import type { SessionEnd } from './session.ts'

export type AfterEnd =
  | { readonly type: 'stop'; readonly cause: StopCause }
  /** `text` is for a person who looks at the state meanwhile. */
  | { readonly type: 'reconnect'; readonly when: 'now' | 'later'; readonly text: string }

export function decideAfterEnd(end: SessionEnd, wasEstablished: boolean): AfterEnd {
  switch (end.type) {
    case 'closed_here':
      return { type: 'stop', cause: { type: 'closed' } }
    case 'wrong_server_key':
      return { type: 'stop', cause: refusedFor('wrong_server_key') }
    case 'server_key_followed':
      return { type: 'reconnect', when: 'now', text: 'The server has a new key, and its change is signed' }
    case 'server_key_alarm':
      return { type: 'stop', cause: { type: 'alarm', alarm: createAlarm(end.code) } }
    case 'malformed_message':
      return { type: 'stop', cause: { type: 'alarm', alarm: createAlarm('malformed_message', { field: end.field }) } }
    case 'closed_by_server':
      return decideAfterClose(end.code, wasEstablished)
    case 'handshake_failed':
      return later('The handshake with the server failed')
    case 'handshake_timeout':
      return later('The server took too long to answer')
    case 'silent':
      return later('The server fell silent')
    case 'bad_frame':
      return later('A frame from the server could not be opened')
    case 'given_up':
      return later(end.text)
    case 'lost':
      return later(wasEstablished ? 'The connection was lost' : describeUnreached(end.problem))
  }
}

const describeUnreached = (problem: ConnectProblem | undefined): string =>
  problem === undefined
    ? 'The server cannot be reached'
    : `The server cannot be reached: ${describeConnectProblem(problem)}`

const later = (text: string): AfterEnd => ({ type: 'reconnect', when: 'later', text })

function decideAfterClose(code: ErrorCode, wasEstablished: boolean): AfterEnd {
  const { action, text } = errorEntry(code)
  // An alarm of its own, which says what a cloned device is.
  if (code === 'device_seq_conflict') {
    return { type: 'stop', cause: { type: 'alarm', alarm: createAlarm('device_cloned') } }
  }
  switch (action) {
    case 'reconnect_now':
      // A server that never let us in cannot make us hammer it.
      return { type: 'reconnect', when: wasEstablished ? 'now' : 'later', text }
    case 'reconnect':
    case 'retry':
    case 'adjust':
      return later(text)
    case 'alarm':
    case 'stop':
      return { type: 'stop', cause: refusedFor(code) }
  }
}
