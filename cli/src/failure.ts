// How a command ends: the exit codes, and the words for whatever went wrong. An error that is not expected here is told
// with its message only; nothing is swallowed.

import { AccountError, ClientStoppedError, describeStop, PublishError } from '@valise/client'
import { DeviceHomeError, ExportFileError, SetupError } from '@valise/client/node'

export const EXIT = {
  success: 0,
  failure: 1,
  /** Wrong flags, arguments or order of commands. */
  misuse: 2,
  /** The client stopped for good: something that must not happen did. */
  alarm: 3,
  /** 128 + SIGINT, as shells count. */
  interrupted: 130,
} as const

/** What was typed cannot be done; the message says what was expected. */
export class MisuseError extends Error {
  readonly code: string

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'MisuseError'
    this.code = code
  }
}

export interface Failure {
  readonly exitCode: number
  /** Stable, for machines. */
  readonly code: string
  readonly text: string
}

const SETUP_MISUSES: ReadonlySet<string> = new Set([
  'not_set_up',
  'already_set_up',
  'bad_server_url',
  'bad_fingerprint',
  'unverified_server',
  'bad_name',
  'bad_request',
  'bad_invitation',
  'invitation_required',
  'bad_phrase',
  'bad_offer',
])

const SETUP_HINTS: Readonly<Record<string, string>> = {
  not_set_up: 'Run `valise init --server …` for a first device, or `valise pair --new --server …` for a further one.',
  already_set_up: 'Choose another folder with --home for another device.',
  bad_server_url: 'Expected --server ws://HOST:PORT or wss://HOST.',
  bad_fingerprint:
    'Expected the 43 characters that the server prints when it starts, or the whole `its key` of a recovery sheet.',
  unverified_server: 'Ask its operator for the fingerprint, and give it with --fingerprint; or use wss://.',
  invitation_required: 'Ask its operator for one, and give it with --invite-file FILE or --invite CODE.',
  invitation_refused: 'Ask its operator for another one; each makes one user, and only for a time.',
  revoked: 'Choose another folder with --home, or link it anew: `valise link --server …`.',
  bad_request: 'Expected the line that `valise link` printed on the other device, whole.',
}

const ACCOUNT_MISUSES: ReadonlySet<string> = new Set(['unknown_device', 'ambiguous_device'])

const HOME_MISUSES: ReadonlySet<string> = new Set(['in_use', 'unusable'])

const PUBLISH_MISUSES: ReadonlySet<string> = new Set(['bad_stream_name', 'bad_ttl'])

export function describeFailure(error: unknown): Failure {
  if (error instanceof MisuseError) return { exitCode: EXIT.misuse, code: error.code, text: error.message }
  if (error instanceof ClientStoppedError) {
    const { stopCause: cause } = error
    const code = cause.type === 'alarm' ? cause.alarm.code : cause.type === 'refused' ? cause.code : cause.type
    return { exitCode: EXIT.alarm, code, text: describeStop(cause) }
  }
  if (error instanceof ExportFileError) return { exitCode: EXIT.alarm, code: 'bad_export', text: error.message }
  if (error instanceof SetupError) return describeSetup(error)
  if (error instanceof AccountError) {
    const exitCode = ACCOUNT_MISUSES.has(error.code) ? EXIT.misuse : EXIT.failure
    return { exitCode, code: error.code, text: error.message }
  }
  if (error instanceof DOMException && error.name === 'AbortError') {
    return { exitCode: EXIT.interrupted, code: 'aborted', text: 'Given up.' }
  }
  if (error instanceof DeviceHomeError) {
    const { code, message } = error
    const exitCode = HOME_MISUSES.has(code) ? EXIT.misuse : EXIT.failure
    const hint =
      code === 'unusable' ? ' Expected --home with a folder of your own, or a place where you may make one.' : ''
    return { exitCode, code, text: `${message}${hint}` }
  }
  if (error instanceof PublishError) {
    if (error.cause instanceof ClientStoppedError) return describeFailure(error.cause)
    const exitCode = PUBLISH_MISUSES.has(error.code) ? EXIT.misuse : EXIT.failure
    return { exitCode, code: error.code, text: error.message }
  }
  return { exitCode: EXIT.failure, code: 'failed', text: error instanceof Error ? error.message : String(error) }
}

function describeSetup({ code, message }: SetupError): Failure {
  if (code === 'aborted') return { exitCode: EXIT.interrupted, code, text: message }
  const hint = SETUP_HINTS[code]
  return {
    exitCode: SETUP_MISUSES.has(code) ? EXIT.misuse : EXIT.failure,
    code,
    text: hint === undefined ? message : `${message} ${hint}`,
  }
}
