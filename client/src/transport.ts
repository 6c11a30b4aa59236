// The port to one WebSocket-like connection. Text frames carry the handshake, binary frames everything after.

import type { ConnectProblem } from './connect-problem.ts'
import type { Http } from './http.ts'

export interface TransportHandlers {
  readonly onOpen: () => void
  readonly onMessage: (data: string | Uint8Array) => void
  /** Fires exactly once, also when the connection never opened; `problem` says why, where the platform does. */
  readonly onClose: (code: number, reason: string, problem?: ConnectProblem) => void
}

export interface Connection {
  send(data: string | Uint8Array): void
  close(code: number, reason: string): void
  /** Bytes handed to `send` that have not left yet. */
  readonly bufferedAmount: number
  /** Stops and restarts reading, where the platform can. */
  pause?(): void
  resume?(): void
}

export interface Transport {
  /** Begins to connect; outcomes arrive through the handlers, never before this returns. */
  connect(url: string, handlers: TransportHandlers): Connection
  /** Plain requests to the same server. A client without them follows no change of the server's key. */
  readonly http?: Http
}
