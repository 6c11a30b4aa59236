// Which of the server's keys a code, a QR or a link request was made for. The server may have changed its key since then,
// or a moment ago: this device looks first.

import { equalBytes, type ServerKeyPin } from '@valise/protocol'
import { pinsOf } from '../account/key-chain.ts'
import { SetupError } from '../account/setup-error.ts'
import { AlarmError, ClientStoppedError } from '../alarm.ts'
import type { Client } from '../client.ts'
import { type LinkRequest, pinOfRequest } from '../link/request.ts'
import { parseOffer, shortFingerprintOf } from '../pairing/offer.ts'

/** The keys that the other device is told to pin. */
export interface SharedPin {
  readonly fingerprint: Uint8Array
  readonly nextFingerprint: Uint8Array
}

/** The key that a QR names, if this device trusts or has trusted it; else the one it trusts now. */
export async function pinForOffer(client: Client, text: string | undefined): Promise<SharedPin> {
  const pins = await currentPins(client)
  const offer = text === undefined ? undefined : parseOffer(text)
  const named =
    offer?.form === 'qr'
      ? pins.find(({ fingerprint }) => equalBytes(shortFingerprintOf(fingerprint), offer.shortFingerprint))
      : undefined
  return toShared(named ?? client.serverPin())
}

/** The key that a pairing began with, after which the server may have changed it. */
export const pinForPairing = (client: Client, began: ServerKeyPin): SharedPin =>
  toShared(pinsOf(client.serverPin()).find(({ fingerprint }) => equalBytes(fingerprint, began.fingerprint)) ?? began)

/** Rejects with a `SetupError` for a request that names no key of this server. */
export async function pinForRequest(client: Client, request: LinkRequest): Promise<SharedPin> {
  const pin = pinOfRequest(request, await currentPins(client))
  if (pin !== undefined) return toShared(pin)
  throw new SetupError('wrong_server', 'The request was made for another server than the one of this account.')
}

async function currentPins(client: Client): Promise<ServerKeyPin[]> {
  try {
    await client.refreshServerPin()
  } catch (error) {
    if (error instanceof AlarmError) throw new ClientStoppedError({ type: 'alarm', alarm: error.alarm })
    throw error
  }
  return pinsOf(client.serverPin())
}

function toShared({ fingerprint, nextFingerprint }: ServerKeyPin): SharedPin {
  if (nextFingerprint === undefined) throw new Error('a session that is up has told the next key')
  return { fingerprint, nextFingerprint }
}
