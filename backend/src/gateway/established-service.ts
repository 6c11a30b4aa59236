// What a socket asks of the session behind it, whatever the session may do.

import type { Dispatch } from './dispatch.ts'
import type { SessionLogNames } from './session.ts'

export interface EstablishedService {
  readonly logNames: SessionLogNames
  readonly handle: Dispatch
  /** The socket or the session keys have room again. */
  onWritable(): void
  tick(): void
  /** Resolves when what it has in flight is answered. */
  finish(): Promise<void>
  end(): void
}
