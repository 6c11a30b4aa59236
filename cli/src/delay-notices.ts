// Says why nothing gets its receipt while the server is there, once it has taken more than a few seconds, and says when
// receipts come again.

import type { Client, PublishDelay } from '@valise/client'
import { formatTime } from '@valise/client/node'
import type { Output } from './output.ts'

/** Shorter delays are ordinary. */
const TELL_AFTER_MS = 3000

const KEPT = 'What has no receipt is kept on this device and sent again by itself.'

function describeDelay({ code, retryAtMs }: PublishDelay): string {
  switch (code) {
    case 'storage_low':
      return `The server is short of storage and takes no events until its operator makes room. ${KEPT}`
    case 'rate_limited':
      return `The devices of this account publish more than the server takes at a time. ${KEPT}`
    case 'displacement_limit':
      return `This device has pushed out as much of the other devices' events in a day as it may; the server takes the next event at ${formatTime(retryAtMs)}. ${KEPT}`
    default:
      return `The server cannot store events right now (${code}). ${KEPT}`
  }
}

/** Returns how to stop it. */
export function tellDelays(client: Client, output: Output): () => void {
  let told: PublishDelay['code'] | undefined
  return client.onPublishDelayed((delay) => {
    if (delay === undefined) {
      if (told !== undefined) output.notice('publishing_resumed', 'The server takes events again.')
      told = undefined
      return
    }
    if (delay.code === told || delay.retryAtMs - delay.sinceMs < TELL_AFTER_MS) return
    told = delay.code
    output.notice('publishing_delayed', describeDelay(delay), {
      reason: delay.code,
      retry_at: formatTime(delay.retryAtMs),
    })
  })
}
