// What a socket asks of the session behind it, whatever the session may do.

import type { ClientMessage } from '@valise/protocol'
import type { SessionLogNames } from './session.ts'

export interface EstablishedService {
  readonly logNames: SessionLogNames
  handle(message: ClientMessage): void
  /** The socket or the session keys have room again. */
  onWritable(): void
  tick(): void
  /** Resolves when what it has in flight is answered. */
  finish(): Promise<void>
  end(): void
}
