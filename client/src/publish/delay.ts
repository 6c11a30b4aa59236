// Why events that were sent have no receipt yet: the server says that it takes them later. For people, who otherwise see a
// program that does nothing; what is sent and when is the window's business.

import type { ErrorCode } from '@valise/protocol'
import type { Clock } from '../clock.ts'

/** Since the first refusal after the last receipt. Unix milliseconds by this device's clock. */
export interface PublishDelay {
  readonly code: ErrorCode
  readonly sinceMs: number
  /** When the events are sent again. */
  readonly retryAtMs: number
}

export interface DelayWatch {
  refused(code: ErrorCode, retryAtMs: number): void
  receipted(): void
}

export interface DelayWatchParts {
  readonly clock: Pick<Clock, 'now'>
  /** Undefined: events are taken again. */
  onDelay(delay: PublishDelay | undefined): void
}

const SAME_MS = 200

export function createDelayWatch({ clock, onDelay }: DelayWatchParts): DelayWatch {
  let delay: PublishDelay | undefined
  return {
    refused: (code, retryAtMs) => {
      // Of one message, each event is refused.
      if (delay?.code === code && retryAtMs - delay.retryAtMs < SAME_MS) return
      delay = { code, sinceMs: delay?.sinceMs ?? clock.now(), retryAtMs }
      onDelay(delay)
    },
    receipted: () => {
      if (delay === undefined) return
      delay = undefined
      onDelay(undefined)
    },
  }
}
