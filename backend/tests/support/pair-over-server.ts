// Two devices with clocks of their own that pair over a running server's mailbox: both sides run the client's code, and the
// code and the four digits are all that is carried between them.

import { signDevicePop } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import type { Identity } from '../../../client/src/account/identity.ts'
import { type Pairing, pairDevice } from '../../../client/src/account/pair-account.ts'
import type { Client } from '../../../client/src/client.ts'
import type { Clock } from '../../../client/src/clock.ts'
import { nodeHttp } from '../../../client/src/node/node-http.ts'
import { parsePairingInvitation } from '../../../client/src/pairing/messages.ts'
import type { PairingKeeper } from '../../../client/src/pairing/record.ts'
import type { ExistingSide, NewSide } from '../../../client/src/pairing/run-pairing.ts'
import { createDeviceKeys } from '../../../client/src/sealing/device-keys.ts'
import { MAX_INVITED_DEVICES } from '../../../client/src/seen-view.ts'

export interface Inviter {
  readonly client: Client
  readonly identity: Identity
}

export interface PairedDevices {
  /** The outcome on the existing device and on the new one. */
  readonly outcomes: readonly [string, string]
  readonly identity: Identity
}

/** Rejects as the new device's pairing does; the existing one shows the code. `onShown` runs before the code is typed. */
export async function pairOverServer(
  { client, identity }: Inviter,
  clocks: { readonly existing: Clock; readonly fresh: Clock },
  onShown: () => Promise<void> = async () => {},
): Promise<PairedDevices> {
  const { server } = identity
  const keys = await createDeviceKeys(crypto, 'member')
  let check: string | undefined
  let tellCode: (code: string) => void = () => {}
  const shown = new Promise<string>((resolve) => {
    tellCode = resolve
  })
  const existing: ExistingSide = {
    invite: () => ({
      userId: identity.userId,
      serverFingerprint: server.fingerprint,
      nextFingerprint: client.serverPin().nextFingerprint!,
      inviter: identity.deviceId,
      seen: client.device.checkpoints.view(MAX_INVITED_DEVICES),
    }),
    decide: async () => check,
    add: async (device, signal) => {
      const seq = await client.addDevice(device, signal)
      const head = client.device.book.headAt(seq)
      if (head === undefined) throw new Error('the entry is not in the log')
      return { seq, head }
    },
  }
  const fresh: NewSide = {
    introduce: async ({ userId }) => {
      const proof = await signDevicePop(keys.signer, userId, keys.record)
      return { record: keys.record, name: 'phone', platform: 'test', proof }
    },
  }
  let joined: Identity | undefined
  const giveUp = new AbortController()
  const common = {
    server,
    isFresh: false,
    maxRenewals: 0,
    createNewDevice: async () => undefined,
    openInSession: (seat: Parameters<Client['openPairing']>[0]) => client.openPairing(seat),
    finish: async (outcome: Parameters<Pairing['finish']>[0]) => {
      const invitation = outcome.type === 'admitted' ? parsePairingInvitation(outcome.invitation) : undefined
      if (invitation === undefined) return
      const { userId } = invitation
      joined = { userId, keys, deviceId: keys.deviceId, name: 'phone', platform: 'test', server }
    },
    screen: {
      onShown: ({ code }: { readonly code: string }) => tellCode(code),
      onResumed: () => {},
      onRenewed: () => {},
      onStep: (step: { readonly check: string | undefined }) => {
        check = step.check ?? check
      },
    },
    signal: giveUp.signal,
  }
  const showing = pairDevice(
    { crypto, clock: clocks.existing, http: nodeHttp, keeper: createKeeper() },
    { ...common, part: 'existing', offer: undefined, side: () => ({ part: 'existing', existing }) },
  )
  const offer = await shown
  await onShown()
  try {
    const joining = await pairDevice(
      { crypto, clock: clocks.fresh, http: nodeHttp, keeper: createKeeper() },
      { ...common, part: 'new', offer, side: () => ({ part: 'new', new: fresh }) },
    )
    if (joined === undefined) throw new Error(`the new device is not in: ${joining.type}`)
    return { outcomes: [(await showing).type, joining.type], identity: joined }
  } finally {
    giveUp.abort()
    await showing.catch(() => {})
  }
}

function createKeeper(): PairingKeeper {
  let stored: Uint8Array | undefined
  return {
    load: async () => stored,
    save: async (record) => {
      stored = record
    },
    forget: async () => {
      stored = undefined
    },
  }
}
