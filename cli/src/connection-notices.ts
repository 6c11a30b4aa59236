// Says once that the server is away, and once that it is back: a client that waits in silence looks like one that hangs.

import type { Client } from '@valise/client'
import type { Output } from './output.ts'

export interface ConnectionNotices {
  /** The server is away, and the client waits to come back. */
  readonly isAway: boolean
  close(): void
}

/** A connection that comes and goes is told of so often. */
const TELL_EVERY_MS = 60_000

/** `advice` says what the person at the terminal may do meanwhile. */
export function tellConnection(client: Client, output: Output, advice: () => string): ConnectionNotices {
  let isAway = false
  let isTold = false
  let toldAtMs = Number.NEGATIVE_INFINITY
  const close = client.onState((state) => {
    switch (state.type) {
      case 'offline':
        // A session that is made anew at once is nothing to wait for: new keys, or word that must be proved.
        if (state.retryAtMs === undefined || state.retryAtMs <= Date.now()) return
        isAway = true
        if (isTold || Math.abs(Date.now() - toldAtMs) < TELL_EVERY_MS) return
        isTold = true
        toldAtMs = Date.now()
        output.notice('server_away', `The server is away (${state.text}); trying again until it answers. ${advice()}`)
        return
      case 'live':
        if (isTold) output.notice('server_back', 'The server is back.')
        isAway = false
        isTold = false
        return
      case 'connecting':
      case 'replaying':
      case 'stopped':
        return
    }
  })
  return {
    get isAway() {
      return isAway
    },
    close,
  }
}
