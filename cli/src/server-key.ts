// Tells once that the server has another key now, which this device trusts because the one before signed it.

import type { Client } from '@valise/client'
import { toBase64Url } from '@valise/protocol'
import type { Output } from './output.ts'

/** Returns how to stop it. */
export const tellServerKey = (client: Client, output: Output): (() => void) =>
  client.onServerKeyMoved(({ from, to }) =>
    output.notice(
      'server_key_changed',
      `The server has changed its key. The change is signed by the key before, and this device follows it. Before: ${toBase64Url(from)}. Now: ${toBase64Url(to)}.`,
      { from: toBase64Url(from), to: toBase64Url(to) },
    ),
  )
