// Appends an entry to the device log: drafted on the newest head, verified here by the server's own rules, sent with its
// boxes. The append is compare-and-swap: when another entry came first, the log is read and the draft made anew.

import {
  applyEntry,
  type Crypto,
  type DeviceLogState,
  type ErrorMessage,
  type SealedBox,
  type SealedLink,
} from '@valise/protocol'
import type { Clock } from '../clock.ts'
import { RequestRefusedError } from '../connection/requests.ts'
import type { DeviceKeys } from '../sealing/device-keys.ts'
import type { SealedEpoch } from '../sealing/epoch-boxes.ts'
import { AccountError, NOT_A_MANAGER, SUSPENDED } from './account-error.ts'
import type { EpochKeys } from './epoch-keys.ts'
import type { LogBook, LogPosition } from './log-book.ts'
import { type Ask, readAccount, refuseRevoked } from './sync.ts'

export interface AppendParts {
  readonly crypto: Crypto
  readonly clock: Clock
  /** Whoever signs: this device, or the recovery device. */
  readonly identity: Pick<DeviceKeys, 'deviceId' | 'signer'>
  readonly book: LogBook
  readonly epochKeys: EpochKeys
  readonly attempt: Attempt
}

/** One change of the log, over as many sessions as it takes: it knows its own entry when it finds it there. */
export interface Attempt {
  /** Before the entry is sent. */
  note(entry: LogPosition): void
  isStored(book: LogBook): boolean
}

/** Each is of a session that was lost at the very moment; an older one is not waited for. */
const MAX_NOTED = 64

export function createAttempt(): Attempt {
  const noted: LogPosition[] = []
  return {
    note: (entry) => {
      noted.push(entry)
      if (noted.length > MAX_NOTED) noted.shift()
    },
    isStored: (book) => noted.some((entry) => book.compare(entry) === 'known'),
  }
}

/** An entry and all that goes with it, signed for one head of the log. */
export interface EntryDraft {
  readonly entry: Uint8Array
  readonly boxes: readonly SealedBox[]
  /** Of the epoch that the entry starts. */
  readonly links?: readonly SealedLink[]
  /** The epoch that the entry starts, if its secret is to be kept here. */
  readonly epoch?: { readonly n: number; readonly secret: Uint8Array } | undefined
}

/** Others append entries too, but not that often. */
const MAX_DRAFTS = 8

/**
 * `draft` makes the entry for a state of the log, or finds that nothing is left to do. Resolves to whether this attempt
 * appended it, be it in an earlier call whose answer was lost. Rejects as `ask` does, with `AccountError`, and with
 * `DeviceRevokedError` when the log has revoked the signer, be it by this very entry.
 */
export async function appendEntry(
  parts: AppendParts,
  ask: Ask,
  draft: (log: DeviceLogState) => Promise<EntryDraft | undefined>,
): Promise<boolean> {
  const { crypto, book, epochKeys, attempt } = parts
  for (let drafts = 1; ; drafts++) {
    await readAccount(ask, book, epochKeys)
    if (attempt.isStored(book)) return true
    const log = book.require()
    const drafted = await draft(log)
    if (drafted === undefined) return false
    const { entry, boxes, links = [], epoch } = drafted
    const applied = applyEntry(crypto, log, entry)
    if (!applied.ok) throw refusalOf(applied.rule)
    attempt.note({ seq: applied.state.seq, head: applied.state.head })
    try {
      await ask({ type: 'append_device_log', entry, boxes: [...boxes], links: [...links] })
    } catch (error) {
      if (!(error instanceof RequestRefusedError)) throw error
      const { code, rule } = error.answer
      if (code === 'device_log_refused') throw refusalOf(rule, error)
      if (code === 'device_suspended') throw refusalOf('signer_suspended', error)
      if (code !== 'log_head_moved' || drafts >= MAX_DRAFTS) throw error
      continue
    }
    // The server may have told of the entry before it answered.
    if (book.require().seq === log.seq) {
      await book.append([entry], epoch === undefined ? [] : [epochKeys.saving(epoch.n, epoch.secret)])
      if (epoch !== undefined) epochKeys.keep(epoch.n, epoch.secret)
      refuseRevoked(book, epochKeys)
    }
    return true
  }
}

export const toBoxes = ({ boxes }: SealedEpoch): SealedBox[] =>
  boxes.map(({ deviceId, box }) => ({ device_id: deviceId, box }))

export const toLinks = ({ links }: SealedEpoch): SealedLink[] => links.map(({ n, box }) => ({ prev_epoch: n, box }))

const HOUR_MS = 3_600_000

/** When the server will take it, in whole hours. */
function describeWait(refusal: { readonly answer: Pick<ErrorMessage, 'retry_after_ms'> } | undefined): string {
  const hours = Math.ceil((refusal?.answer.retry_after_ms ?? 0) / HOUR_MS)
  if (hours === 0) return 'later'
  if (hours < 48) return `in ${hours === 1 ? 'an hour' : `${hours} hours`}`
  return `in ${Math.ceil(hours / 24)} days`
}

/** The rules that a person can run into, found broken here or by the server; any other is a bug of this program. */
function refusalOf(rule = 'that the server has', cause?: RequestRefusedError): AccountError {
  switch (rule) {
    case 'too_many_devices':
      return new AccountError(
        'too_many_devices',
        'The account has as many devices as it may have. Revoke one that is not used any more, and begin again.',
        { cause },
      )
    case 'too_many_entries':
      return new AccountError(
        'device_log_full',
        "The account's device log is full: its devices can be revoked, the account be recovered or deleted, and nothing else.",
        { cause },
      )
    case 'last_manager':
      return new AccountError(
        'last_manager',
        'That would leave the account without a manager. Make another device a manager first.',
      )
    case 'signer_role':
      return new AccountError('not_a_manager', NOT_A_MANAGER)
    case 'signer_suspended':
      return new AccountError('device_suspended', SUSPENDED)
    case 'device_suspended':
      return new AccountError(
        'device_suspended',
        'That device is suspended. Revoke it; nothing else can be done with it.',
      )
    case 'cut_differs':
    case 'cut_false':
      return new AccountError(
        'cut_refused',
        'The server does not have the event that this device would cut the other one at. Run `valise verify` on this device, and revoke from another manager.',
        { cause },
      )
    case 'entry_rate_limited':
      return new AccountError(
        'entry_rate_limited',
        `The devices of this account have signed as many changes as they may in a day. Try again ${describeWait(cause)}; revoking works at any time.`,
        { cause, retryAfterMs: cause?.answer.retry_after_ms },
      )
    case 'settle_too_early':
      return new AccountError(
        'settle_too_early',
        `A new phrase that was asked for without the old one takes effect after seven days. Try again ${describeWait(cause)}.`,
        { cause, retryAfterMs: cause?.answer.retry_after_ms },
      )
    case 'nothing_pending':
      return new AccountError('nothing_pending', 'Nothing waits, or something else does: look at `valise status`.')
    case 'close_pending':
      return new AccountError(
        'close_pending',
        'The deletion of this account has been asked for already. `valise account keep` cancels it.',
      )
    case 'phrase_proof':
      return new AccountError('phrase_refused', 'The phrase that was typed is not the one of this account.')
    case 'device_inactive':
      return new AccountError('already_revoked', 'That device was revoked before.')
    case 'unknown_device':
      return new AccountError('unknown_device', 'No device of this account is meant by that.')
    default:
      return new AccountError('entry_refused', `The device log does not take the entry: it breaks the rule ${rule}.`, {
        cause,
      })
  }
}
