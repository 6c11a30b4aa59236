// A device of an account and one that is to become one, each with a screen and a file of its own, at one server in memory.
// Ended and called again, a device goes on with what it has stored.

import { buildAdd, findDevice, signDevicePop } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { type Pairing, pairDevice } from '../../src/account/pair-account.ts'
import { SetupError } from '../../src/account/setup-error.ts'
import type { Http } from '../../src/http.ts'
import type { PairingKeeper } from '../../src/pairing/record.ts'
import type { ExistingSide, NewSide, PairingOutcome } from '../../src/pairing/run-pairing.ts'
import { createDeviceKeys } from '../../src/sealing/device-keys.ts'
import { sealBoxForNewDevice } from '../../src/sealing/epoch-boxes.ts'
import { createManualClock, type ManualClock } from './manual-clock.ts'
import { createPairingServer, type PairingServer } from './pairing-server.ts'
import { type Account, authorOf, createAccount, mustApply } from './sealed-account.ts'

export const SERVER = { url: 'ws://server.test', fingerprint: new Uint8Array(32).fill(5) }

export interface PairingDevice {
  readonly keeper: PairingKeeper & { stored: Uint8Array | undefined }
  /** What its screen said, in order: steps by name, `check 1234`, `resumed`. */
  readonly screen: readonly string[]
  shown: { readonly url: string; readonly code: string; readonly isResumed: boolean } | undefined
  /** The four digits on its screen. */
  readonly check: string | undefined
  readonly outcomes: readonly PairingOutcome[]
  /** Of its requests alone, before they reach the server. */
  http: Http
  /** Called at each step, after it is on the screen. */
  onStep: (type: string) => void
  /** The type of the outcome, or the code and the text of the failure. */
  pair(options?: Partial<Pairing>): Promise<string>
}

export interface PairingScene {
  readonly clock: ManualClock
  readonly server: PairingServer
  readonly existing: PairingDevice
  readonly fresh: PairingDevice
  /** What the person at the existing device types; default: what the new one shows. */
  decide: ExistingSide['decide']
  add: ExistingSide['add']
  isIn(): boolean
}

export async function createPairingScene(): Promise<PairingScene> {
  const clock = createManualClock()
  const server = createPairingServer(clock)
  const keys = await createDeviceKeys(crypto, 'member')
  let account: Account = await createAccount()
  const isIn = (): boolean => findDevice(account.state, keys.deviceId) !== undefined
  const existing: ExistingSide = {
    invite: () => ({
      userId: account.state.userId,
      serverFingerprint: SERVER.fingerprint,
      nextFingerprint: SERVER.fingerprint,
      inviter: account.manager.deviceId,
      seen: { logSeq: account.state.seq, logHead: account.state.head, chains: [] },
    }),
    decide: (...args) => scene.decide(...args),
    add: (...args) => scene.add(...args),
  }
  const fresh: NewSide = {
    introduce: async ({ userId }) => {
      const proof = await signDevicePop(keys.signer, userId, keys.record)
      return { record: keys.record, name: 'phone', platform: 'linux', proof }
    },
  }
  const scene: PairingScene = {
    clock,
    server,
    existing: createDevice({ clock, server }, { part: 'existing', existing }),
    fresh: createDevice({ clock, server }, { part: 'new', new: fresh }),
    decide: async () => scene.fresh.check,
    add: async ({ record, proof }) => {
      // Begun again, it finds that it is done.
      if (!isIn()) {
        const { boxHash } = await sealBoxForNewDevice(crypto, account.state, record, account.epoch.secret)
        const entry = await buildAdd(account.state, authorOf(account.manager), { record, boxHash, proof })
        account = { ...account, state: mustApply(account.state, entry) }
      }
      return { seq: account.state.seq, head: account.state.head }
    },
    isIn,
  }
  return scene
}

function createDevice(
  { clock, server }: Pick<PairingScene, 'clock' | 'server'>,
  side: ReturnType<Pairing['side']>,
): PairingDevice {
  const screen: string[] = []
  const outcomes: PairingOutcome[] = []
  const keeper: PairingDevice['keeper'] = {
    stored: undefined,
    load: async () => keeper.stored,
    save: async (record) => {
      keeper.stored = record
    },
    forget: async () => {
      keeper.stored = undefined
    },
  }
  const device: PairingDevice = {
    keeper,
    screen,
    shown: undefined,
    get check() {
      return screen.findLast((line) => line.startsWith('check '))?.slice('check '.length)
    },
    outcomes,
    http: server.http,
    onStep: () => {},
    pair: async (options = {}) => {
      const pairing: Pairing = {
        part: side.part,
        server: SERVER,
        offer: undefined,
        isFresh: false,
        maxRenewals: 0,
        signal: undefined,
        openInSession: undefined,
        createNewDevice: async () => undefined,
        side: () => side,
        finish: async (outcome) => void outcomes.push(outcome),
        screen: {
          onShown: (shown) => {
            device.shown = shown
          },
          onResumed: () => screen.push('resumed'),
          onRenewed: ({ reason, left }) => screen.push(`renewed ${reason} ${left}`),
          onStep: ({ type, check }) => {
            screen.push(type)
            if (check !== undefined && device.check !== check) screen.push(`check ${check}`)
            device.onStep(type)
          },
        },
        ...options,
      }
      try {
        const outcome = await pairDevice({ crypto, clock, keeper, http: (request) => device.http(request) }, pairing)
        return outcome.type
      } catch (error) {
        if (!(error instanceof SetupError)) throw error
        return `${error.code}: ${error.message}`
      }
    },
  }
  return device
}
