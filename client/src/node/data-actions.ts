// What a person does with all that his account holds: write it to a file, read such a file, and delete the account.

import { type Crypto, findRecovery } from '@valise/protocol'
import { AccountError } from '../account/account-error.ts'
import type { CloseOutcome } from '../account/close-account.ts'
import { forgetAccount } from '../account/forget-account.ts'
import { describeVerdict, judgePhrase, toRecoveryKeys } from '../account/recovery-sheet.ts'
import { SetupError } from '../account/setup-error.ts'
import { ClientStoppedError } from '../alarm.ts'
import type { Client } from '../client.ts'
import type { Clock } from '../clock.ts'
import type { ExportSummary } from '../export/check-export.ts'
import { type ImportCounts, importEvents, importPositionName } from '../export/import-events.ts'
import { writeExport } from '../export/write-export.ts'
import type { AtRestSealer } from '../store/at-rest.ts'
import { readPosition } from '../store/positions.ts'
import type { Store } from '../store/store.ts'

export interface DataActions {
  /**
   * The lines of an export (docs/EXPORT.md), without their ends, of all this device holds; `streamNames` names streams that
   * it never used. Ends this device's client first, so that nothing changes meanwhile.
   */
  exportLines(streamNames: readonly string[]): AsyncIterable<string>
  /**
   * Queues the events of an export that `checkExport` found sound, in order, and goes on where an import of the same file
   * was interrupted. Rejects with an `ExportFileError`, and as `publish` does.
   */
  importLines(summary: ExportSummary, lines: AsyncIterable<string>, signal: AbortSignal): Promise<ImportCounts>
  /**
   * Ends the account: on the server for all devices, and here, where keys and events are erased after it. The other devices
   * are told, and keep what they hold. At once with the phrase, or where there is none; else in seven days, unless a device
   * cancels it. `phrase` is asked only of a manager of an account that has one. Waits for a server that is away. Rejects with an `AccountError` on a device that is no manager.
   */
  deleteAccount(phrase: (() => Promise<string>) | undefined, signal?: AbortSignal): Promise<CloseOutcome>
}

export interface DataActionsParts {
  readonly store: Store
  readonly sealer: AtRestSealer
  readonly crypto: Crypto
  readonly clock: Clock
  /** Throws a `SetupError` before there is an account. */
  require(): { readonly client: Client; readonly account: { readonly role: 'manager' | 'member' } }
  /** This home belongs to no account any more. */
  forget(): void
  destroyKey(): Promise<void>
}

export function createDataActions(parts: DataActionsParts): DataActions {
  const { store, sealer, crypto, clock } = parts

  async function* exportLines(streamNames: readonly string[]): AsyncGenerator<string> {
    const { client } = parts.require()
    await client.close()
    yield* writeExport({ store, sealer, crypto, clock, device: client.device, streamNames })
  }

  return {
    exportLines,
    importLines: async ({ exportId }, lines, signal) => {
      const { client } = parts.require()
      const positionName = importPositionName(exportId)
      const done = await readPosition(store, positionName)
      return importEvents({ client, clock: client.device.serverTime, positionName, done, signal }, lines)
    },
    deleteAccount: async (phrase, signal) => {
      const { client } = parts.require()
      const close = async (): Promise<CloseOutcome> => {
        await client.whenReady(signal)
        // By the log as the server has it: the role may have changed since this device was last online.
        if (parts.require().account.role !== 'manager') throw new AccountError('not_a_manager', ONLY_A_MANAGER)
        const log = client.device.book.require()
        const isAsked = phrase !== undefined && findRecovery(log) !== undefined
        const keys = isAsked ? await toRecoveryKeys(crypto, await phrase()) : undefined
        const verdict = keys === undefined ? 'valid' : judgePhrase(log, keys)
        if (verdict !== 'valid') throw new SetupError('bad_phrase', describeVerdict(verdict))
        return client.closeAccount(keys, signal)
      }
      client.start()
      const outcome = await close().catch((error: unknown): CloseOutcome => {
        if (!saysDeleted(error)) throw error
        return 'closed'
      })
      await client.close()
      if (outcome === 'pending') return outcome
      parts.forget()
      await forgetAccount(store)
      await parts.destroyKey()
      return outcome
    },
  }
}

const ONLY_A_MANAGER = 'Only a manager can delete the account; do it on a device that is one.'

/** The answer to the entry was lost, or another device was first: the server says that there is no such account. */
const saysDeleted = (error: unknown): boolean =>
  error instanceof ClientStoppedError &&
  error.stopCause.type === 'refused' &&
  error.stopCause.code === 'account_deleted'
