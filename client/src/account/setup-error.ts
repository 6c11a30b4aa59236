// Why a device could not be set up, in words fit to show.

export type SetupErrorCode =
  | 'not_set_up'
  | 'already_set_up'
  | 'bad_server_url'
  | 'bad_fingerprint'
  | 'bad_name'
  | 'server_unreachable'
  | 'wrong_server'
  | 'wrong_server_key'
  | 'unverified_server'
  | 'registration_refused'
  | 'registration_limited'
  | 'invitation_required'
  | 'invitation_refused'
  | 'bad_invitation'
  | 'bad_request'
  | 'link_timeout'
  | 'link_declined'
  | 'link_failed'
  | 'not_a_manager'
  | 'bad_phrase'
  | 'phrase_unknown'
  | 'phrase_replaced'
  | 'phrase_unconfirmed'
  | 'account_deleted'
  | 'revoked'
  | 'bad_offer'
  | 'pairing_refused'
  | 'pairing_limited'
  | 'pairing_failed'
  | 'pairing_declined'
  | 'aborted'

export class SetupError extends Error {
  readonly code: SetupErrorCode

  constructor(code: SetupErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'SetupError'
    this.code = code
  }
}
