// Waiting for a server on behalf of a person: for so long and no longer, with the reason when it was in vain.

import { SetupError } from '../account/setup-error.ts'
import type { Client } from '../client.ts'

const REACH_TIMEOUT_MS = 30_000

export const withTimeout = (timeoutMs: number, signal: AbortSignal | undefined): AbortSignal => {
  const timeout = AbortSignal.timeout(timeoutMs)
  return signal === undefined ? timeout : AbortSignal.any([signal, timeout])
}

/** Runs what waits for the server; when the time is over, rejects with a `SetupError` that says how things stand. */
export async function reachServer<Result>(
  client: Client,
  signal: AbortSignal | undefined,
  wait: (signal: AbortSignal) => Promise<Result>,
  timeoutMs = REACH_TIMEOUT_MS,
): Promise<Result> {
  client.start()
  try {
    return await wait(withTimeout(timeoutMs, signal))
  } catch (error) {
    if (!(error instanceof DOMException)) throw error
    const state = client.state()
    const text = state.type === 'offline' ? state.text : 'The server cannot be reached'
    throw new SetupError(error.name === 'TimeoutError' ? 'server_unreachable' : 'aborted', `${text}.`, { cause: error })
  }
}
