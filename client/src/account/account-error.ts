// Why a change of the account's devices is not made, in words fit to show. Nothing has happened when one is thrown.

export type AccountErrorCode =
  | 'not_a_manager'
  | 'last_manager'
  | 'unknown_device'
  | 'ambiguous_device'
  | 'already_revoked'
  | 'too_many_devices'
  | 'device_log_full'
  | 'entry_refused'

export class AccountError extends Error {
  readonly code: AccountErrorCode

  constructor(code: AccountErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'AccountError'
    this.code = code
  }
}

export const NOT_A_MANAGER = 'Only a manager can change devices and keys; do it on a device that is one.'
