// Why a change of the account's devices is not made, in words fit to show. Nothing has happened when one is thrown.

export type AccountErrorCode =
  | 'not_a_manager'
  | 'last_manager'
  | 'unknown_device'
  | 'ambiguous_device'
  | 'already_revoked'
  | 'too_many_devices'
  | 'device_log_full'
  | 'device_suspended'
  | 'cut_refused'
  | 'entry_rate_limited'
  | 'changes_wait'
  | 'settle_too_early'
  | 'nothing_pending'
  | 'close_pending'
  | 'phrase_refused'
  | 'epoch_closed'
  | 'entry_refused'

export class AccountError extends Error {
  readonly code: AccountErrorCode
  /** When the server takes it, if it said so. */
  readonly retryAfterMs: number | undefined

  constructor(
    code: AccountErrorCode,
    message: string,
    { retryAfterMs, ...options }: ErrorOptions & { readonly retryAfterMs?: number | undefined } = {},
  ) {
    super(message, options)
    this.name = 'AccountError'
    this.code = code
    this.retryAfterMs = retryAfterMs
  }
}

export const NOT_A_MANAGER = 'Only a manager can change devices and keys; do it on a device that is one.'

export const SUSPENDED =
  'This device is suspended: it reads, and signs and sends nothing any more. Revoke it on another device, and pair this machine again as a new one.'

export const EPOCH_CLOSED =
  'Another device sealed the current key falsely, so this one cannot open it. Try again: a manager starts a new one at once.'

/** The server takes the change later than anybody waits for it. */
export function changesWait(code: 'rate_limited' | 'storage_low', retryAfterMs: number, cause: Error): AccountError {
  const minutes = Math.ceil(retryAfterMs / 60_000)
  const text =
    code === 'storage_low'
      ? 'The server is short of storage: until its operator makes room it takes only what protects the account, such as a revocation. Try again later.'
      : `The devices of this account change it faster than the server allows. Try again in ${minutes} ${minutes === 1 ? 'minute' : 'minutes'}; revoking a device has room of its own.`
  return new AccountError('changes_wait', text, { cause, retryAfterMs })
}
