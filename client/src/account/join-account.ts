// Joins an existing account: asks through a mailbox, then reads and verifies the device log from genesis, finds itself in
// it, opens its box, and only then becomes a device of the user. Interrupted after the approval, it goes on from there.

import { ClientStoppedError } from '../alarm.ts'
import type { Client } from '../client.ts'
import type { Clock } from '../clock.ts'
import type { Http } from '../http.ts'
import { askToJoin, type Invited } from '../link/link.ts'
import { createMailbox } from '../link/mailbox.ts'
import { createLinkRequest, formatLinkRequest } from '../link/request.ts'
import { createDeviceKeys } from '../sealing/device-keys.ts'
import { storeKeys } from '../store/layout.ts'
import { del } from '../store/store.ts'
import type { CreateAccountParts } from './create-account.ts'
import { formatDeviceFingerprint } from './fingerprint.ts'
import { checkServerUrl } from './first-contact.ts'
import { forgetAccount } from './forget-account.ts'
import { type Identity, loadIdentity, type ServerPin, saveIdentity } from './identity.ts'
import { isSameKey } from './key-chain.ts'
import { SetupError } from './setup-error.ts'

export interface JoinAccountParts extends Pick<CreateAccountParts, 'store' | 'sealer' | 'crypto'> {
  readonly http: Http
  readonly clock: Clock
  /** A client over the store for an identity that is not saved as the device's own yet. */
  openClient(identity: Identity): Promise<Client>
}

export interface Joining {
  readonly server: ServerPin
  readonly name: string
  readonly platform: string
  onRequest(request: { readonly text: string; readonly deviceFingerprint: string }): void
  readonly signal: AbortSignal | undefined
}

/** The server keeps a mailbox for ten minutes. */
const LINK_TIMEOUT_MS = 600_000
export const FIRST_SESSION_TIMEOUT_MS = 60_000
/** For an interrupted joining: soon enough not to be in the way of a new one. */
const RESUME_TIMEOUT_MS = 10_000
const PROFILE_TIMEOUT_MS = 10_000

/** Rejects with a `SetupError`. */
export async function joinAccount(parts: JoinAccountParts, joining: Joining): Promise<Identity> {
  const { crypto, store, sealer, http, clock } = parts
  const { name, platform } = joining
  const resumed = await resumeJoining(parts, joining.server)
  if (resumed !== undefined) return resumed
  await forgetAccount(store)

  const keys = await createDeviceKeys(crypto, 'member')
  const request = createLinkRequest(crypto, joining.server.fingerprint)
  const timeout = AbortSignal.timeout(LINK_TIMEOUT_MS)
  const signal = joining.signal === undefined ? timeout : AbortSignal.any([joining.signal, timeout])
  const httpUrl = checkServerUrl(joining.server.url)
  const mailbox = createMailbox({ crypto, http, clock, httpUrl, request, signal })
  const invited = await askToJoin({
    mailbox,
    keys,
    name,
    platform,
    server: joining.server,
    onIntroduced: () =>
      joining.onRequest({
        text: formatLinkRequest(request),
        deviceFingerprint: formatDeviceFingerprint(keys.deviceId),
      }),
    onInvited: (userId, server) =>
      store.batch([saveIdentity(sealer, { userId, keys, name, platform, server }, storeKeys.joining)]),
  })
  const { server } = invited
  const identity = { userId: invited.userId, deviceId: keys.deviceId, keys, name, platform, server }
  await enterAccount(parts, identity, invited.positions, withTimeout(FIRST_SESSION_TIMEOUT_MS, joining.signal))
  return identity
}

/** A joining that was interrupted after the approval, if there is one and it was approved. */
export async function resumeJoining(parts: JoinAccountParts, server: ServerPin): Promise<Identity | undefined> {
  const { crypto, store, sealer } = parts
  const joining = await loadIdentity(crypto, store, sealer, storeKeys.joining)
  if (joining === undefined) return undefined
  const isSame = isSameKey(joining.server, server)
  if (joining.server.url !== server.url && !isSame) return undefined
  // The server may have changed its key since: it must prove the one that is trusted now.
  const identity = isSame ? joining : { ...joining, server }
  if (!isSame) await store.batch([del(storeKeys.serverPin)])
  try {
    await enterAccount(parts, identity, [], AbortSignal.timeout(RESUME_TIMEOUT_MS))
    return identity
  } catch {
    // Not approved, or out of reach: it begins anew with other keys.
    return undefined
  }
}

/** The first session: everything is verified in it, or nothing is kept. */
export async function enterAccount(
  { store, sealer, openClient }: JoinAccountParts,
  identity: Identity,
  positions: Invited['positions'],
  signal: AbortSignal,
): Promise<void> {
  const client = await openClient(identity)
  try {
    client.start()
    await client.whenReady(signal)
    const { book } = client.device
    if (positions.some((position) => book.compare(position) !== 'known')) {
      throw new SetupError('link_failed', 'The server shows another device log than your other device saw.')
    }
    await store.batch([saveIdentity(sealer, identity), del(storeKeys.joining)])
    await client.publishProfile()
    await client.flush(AbortSignal.timeout(PROFILE_TIMEOUT_MS)).catch(() => {})
  } catch (error) {
    throw toSetupError(error)
  } finally {
    await client.close()
  }
}

function toSetupError(error: unknown): unknown {
  if (error instanceof ClientStoppedError) return new SetupError('link_failed', error.message, { cause: error })
  if (error instanceof DOMException && error.name === 'TimeoutError') {
    return new SetupError('link_timeout', 'The server did not let this device in; try again.', { cause: error })
  }
  if (error instanceof DOMException) return new SetupError('aborted', 'Given up.', { cause: error })
  return error
}

const withTimeout = (timeoutMs: number, signal: AbortSignal | undefined): AbortSignal => {
  const timeout = AbortSignal.timeout(timeoutMs)
  return signal === undefined ? timeout : AbortSignal.any([signal, timeout])
}
