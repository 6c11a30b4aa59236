// Who is online, asked of the server when it answers: `devices` shows it, and does without it.

import { type Client, ClientStoppedError } from '@valise/client'
import { formatTime } from '@valise/client/node'
import { toHex } from '@valise/protocol'
import { probeServer, type TrustedKeys } from './server-probe.ts'

export interface SeenDevice {
  readonly isOnline: boolean
  /** Unix milliseconds; undefined when never seen. */
  readonly lastSeenAtMs: number | undefined
}

const TIMEOUT_MS = 3000

/** By device id in hexadecimal, without this device; undefined when the server does not say in time. Never rejects. */
export async function askPresence(
  client: Client,
  server: TrustedKeys & { readonly url: string },
): Promise<ReadonlyMap<string, SeenDevice> | undefined> {
  const answer = await probeServer(server.url, server)
  if (answer !== 'answers' && answer !== 'next_key') return undefined
  return new Promise((resolve) => {
    const settle = (seen: ReadonlyMap<string, SeenDevice> | undefined): void => {
      clearTimeout(deadline)
      resolve(seen)
    }
    const deadline = setTimeout(() => settle(undefined), TIMEOUT_MS)
    client.onPresence((picture) => {
      if (picture === undefined) return
      const seen = new Map(picture.map((device) => [toHex(device.deviceId), device]))
      // What the others call themselves may be among what is yet to be read.
      client.whenLive().then(
        () => settle(seen),
        () => settle(seen),
      )
    })
    client.whenReady().catch((error: unknown) => {
      if (error instanceof ClientStoppedError) settle(undefined)
    })
    client.start()
  })
}

export function describeSeen(seen: SeenDevice | undefined): string {
  if (seen === undefined) return ''
  if (seen.isOnline) return 'online'
  return seen.lastSeenAtMs === undefined ? 'never seen' : `last seen ${formatTime(seen.lastSeenAtMs)}`
}
