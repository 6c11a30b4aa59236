// Keeps several publishes on their way to the disk at once, in order and within a bound, since each waits for a sync.
// The first that fails for all ends the run; one that is refused alone is told and the others go on.

import { PublishError } from '@valise/client'
import type { Piece } from './lines.ts'

const MAX_IN_FLIGHT_EVENTS = 256
const MAX_IN_FLIGHT_BYTES = 4 * 1024 * 1024

export interface PublishWindowParts {
  publish(piece: Piece): Promise<unknown>
  /** The piece, counted from 1, is refused for good; nothing of it was queued. */
  onRefused(position: number, error: PublishError): void
}

export interface PublishWindow {
  /** Begins to publish the piece; resolves when there is room for a next one; rejects with what failed. */
  add(piece: Piece): Promise<void>
  /** Resolves when every piece is durable. */
  settle(): Promise<void>
  /** Pieces that were given up before the outbox had room for them. */
  readonly givenUp: number
}

export function createPublishWindow({ publish, onRefused }: PublishWindowParts): PublishWindow {
  let events = 0
  let bytes = 0
  let position = 0
  let givenUp = 0
  let failure: { readonly error: unknown } | undefined
  let wake: (() => void) | undefined

  const begin = (piece: Piece, at: number): void => {
    events++
    bytes += piece.body.length
    publish(piece)
      .catch((error: unknown) => {
        if (error instanceof PublishError && error.code === 'payload_too_large') return onRefused(at, error)
        if (error instanceof PublishError && error.code === 'aborted') givenUp++
        failure ??= { error }
      })
      .finally(() => {
        events--
        bytes -= piece.body.length
        wake?.()
      })
  }
  const waitUntil = async (isReached: () => boolean): Promise<void> => {
    while (!isReached()) {
      if (failure !== undefined) throw failure.error
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
    if (failure !== undefined) throw failure.error
  }

  return {
    add: (piece) => {
      position++
      begin(piece, position)
      return waitUntil(() => events < MAX_IN_FLIGHT_EVENTS && bytes < MAX_IN_FLIGHT_BYTES)
    },
    settle: () => waitUntil(() => events === 0),
    get givenUp() {
      return givenUp
    },
  }
}
