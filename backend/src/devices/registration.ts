// Who may make a new user (DEV-4): everybody, whoever has an invitation, or nobody. One answer stands for an invitation
// that is unknown, used or expired, and an address that shows too many of those has to wait.

import { createHash } from 'node:crypto'
import type { ErrorCode, Register } from '@valise/protocol'
import type { RegistrationLimits } from '../limits/registration-limits.ts'
import { createTokenBuckets } from '../limits/token-buckets.ts'
import type { Accounts, Prover, Registered } from './accounts.ts'

export type RegistrationMode = 'open' | 'invite' | 'closed'

export interface RegistrationParts {
  readonly mode: RegistrationMode
  readonly accounts: Pick<Accounts, 'register'>
  readonly limits: RegistrationLimits
  /** The server is short of storage. */
  isStorageLow(): boolean
  /** When somebody who was refused for that may ask again. */
  readonly storageRetryMs: number
  countLimited(scope: 'invitation' | 'storage'): void
  /** Milliseconds. */
  now(): number
}

export type RegistrationOutcome =
  | Exclude<Registered, { type: 'invitation_invalid' }>
  | {
      readonly type: 'not_admitted'
      readonly code: Extract<
        ErrorCode,
        'registration_closed' | 'registration_invite_required' | 'invitation_invalid' | 'rate_limited' | 'storage_low'
      >
      readonly retryAfterMs: number | undefined
    }

export interface Registration {
  /** `address` is the key that the limits of its peer are kept by. */
  register(prover: Prover, message: Register, address: string): Promise<RegistrationOutcome>
}

/** What the database keeps of an invitation. It has 128 random bits, so a plain hash gives none of them away. */
export const invitationHash = (invitation: Uint8Array): Uint8Array =>
  new Uint8Array(createHash('sha256').update(invitation).digest())

/** Invitations that nobody can use, from one address: ten at once, one more a minute. */
const WRONG_INVITATIONS = { perSecond: 1 / 60, burst: 10 }
const MAX_ADDRESSES = 100_000

export function createRegistration(parts: RegistrationParts): Registration {
  const { mode, accounts, countLimited, now } = parts
  const attempts = createTokenBuckets(WRONG_INVITATIONS, MAX_ADDRESSES)

  const refuse = (
    code: Extract<RegistrationOutcome, { type: 'not_admitted' }>['code'],
    retryAfterMs?: number,
  ): RegistrationOutcome => ({ type: 'not_admitted', code, retryAfterMs })

  const registerInvited = async (
    prover: Prover,
    message: Register,
    invitation: Uint8Array,
    address: string,
  ): Promise<RegistrationOutcome> => {
    if (attempts.available(address, now()) < 1) {
      countLimited('invitation')
      return refuse('rate_limited', attempts.waitMs(address, 1, now()))
    }
    // Taken before it is known whether it is wrong: many tries at once are many.
    attempts.take(address, 1, now())
    let isWrong = false
    try {
      const outcome = await accounts.register(prover, message, invitationHash(invitation))
      if (outcome.type !== 'invitation_invalid') return outcome
      isWrong = true
      return refuse('invitation_invalid')
    } finally {
      if (!isWrong) attempts.putBack(address, 1, now())
    }
  }

  return {
    register: async (prover, message, address) => {
      if (mode === 'closed') return refuse('registration_closed')
      if (parts.isStorageLow()) {
        countLimited('storage')
        return refuse('storage_low', parts.storageRetryMs)
      }
      switch (mode) {
        case 'invite':
          return message.invitation === undefined
            ? refuse('registration_invite_required')
            : registerInvited(prover, message, message.invitation, address)
        case 'open': {
          const retryAfterMs = parts.limits.refuseRegistration(address)
          if (retryAfterMs !== undefined) return refuse('rate_limited', retryAfterMs)
          const outcome = await accounts.register(prover, message)
          if (outcome.type === 'invitation_invalid') throw new Error('an invitation was asked for on an open server')
          return outcome
        }
      }
    },
  }
}
