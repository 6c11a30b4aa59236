// Changes of an account that were interrupted, by the end of the process or by a session that took the answer with it:
// each is made once, and is told as what it is.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { activeDevices, findDevice, isActive } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { beforeEach, describe, expect, test } from 'vitest'
import { createAccount } from '../src/account/create-account.ts'
import { listDevices } from '../src/account/directory.ts'
import type { Identity } from '../src/account/identity.ts'
import { PROFILE_STREAM } from '../src/account/profile.ts'
import { recoverAccount } from '../src/account/recover-account.ts'
import { judgePhrase, type RecoverySheet, toRecoveryKeys } from '../src/account/recovery-sheet.ts'
import type { Client } from '../src/client.ts'
import { noLog } from '../src/client-log.ts'
import { type AccountActions, createAccountActions } from '../src/node/account-actions.ts'
import { openHome } from '../src/node/home.ts'
import { openNodeDevice } from '../src/node/node-device.ts'
import { openClient } from '../src/open-client.ts'
import { createMemoryStore } from '../src/store/memory-store.ts'
import type { Store } from '../src/store/store.ts'
import { createManualClock, type ManualClock } from './support/manual-clock.ts'
import { parts, sealer } from './support/test-device.ts'
import { createTestServer, type TestServer } from './support/test-server.ts'
import { until } from './support/until.ts'

let server: TestServer
let sheet: RecoverySheet
let lostStore: Store
let lostIdentity: Identity
beforeEach(async () => {
  server = createTestServer()
  lostStore = createMemoryStore()
  const created = await createAccount(parts(server, lostStore), {
    ...pin(),
    name: 'lost',
    platform: 'test',
    signal: undefined,
  })
  sheet = created.sheet
  lostIdentity = created.identity
})

const pin = () => ({ server: { url: 'ws://server.test', fingerprint: server.fingerprint } })

interface Process {
  readonly client: Client
  readonly clock: ManualClock
  readonly actions: AccountActions
  /** Nothing reaches its store any more. */
  end(): Promise<void>
}

/** A process of a device, over the store that the one before it has left. */
async function open(store: Store, identity: Identity): Promise<Process> {
  let hasEnded = false
  const dying: Store = {
    ...store,
    batch: async (operations) => {
      if (hasEnded) throw new Error('the process ended')
      await store.batch(operations)
    },
  }
  const clock = createManualClock()
  const client = await openClient({
    ...parts(server, dying),
    clock,
    identity,
    random: () => 0,
    log: noLog,
    checkpointEvery: 0,
  })
  return {
    client,
    clock,
    actions: createAccountActions({
      store: dying,
      sealer,
      crypto,
      require: () => ({ identity, client }),
      adopt: () => {},
      checkName: (name) => name,
    }),
    end: async () => {
      hasEnded = true
      server.cut()
      await client.close()
    },
  }
}

/** A device that has just come back by the phrase, and has the rest still to do. */
async function recover(store: Store): Promise<Identity> {
  const identity = await recoverAccount(parts(server, store), {
    ...pin(),
    recovery: await toRecoveryKeys(crypto, sheet.phrase),
    name: 'new',
    platform: 'test',
    confirm: async () => true,
    signal: undefined,
  })
  return identity!
}

/** The next entry is stored, and its answer never leaves. Resolves when it is stored. */
function loseNextAnswer(): Promise<void> {
  return new Promise((resolve) => {
    server.intercept = (message, peer) => {
      if (message.type !== 'append_device_log') return false
      server.intercept = () => false
      server.append(message.entry, message.boxes, message.links)
      peer.close(1006, '')
      resolve()
      return true
    }
  })
}

const lostOnes = async ({ client }: Process) => {
  const devices = await listDevices(client.device)
  return devices.filter(({ role, status, isThisDevice }) => !isThisDevice && role !== 'recovery' && status === 'active')
}
const changeKeys = async (process: Process, isLost: boolean): Promise<void> => {
  await process.client.whenLive()
  await process.actions.recoverKeys(isLost ? await lostOnes(process) : [])
}
const comesBack = async ({ client, clock }: Process): Promise<void> => {
  await until(() => client.state().type !== 'live', 'the session to be lost')
  clock.advance(0)
}

describe.each([
  ['with a lost device', true],
  ['without one', false],
])('the new keys of a recovery %s', (_, isLost) => {
  test.each(['the process ended', 'the answer was lost'] as const)(
    'REC-2: are made once, when %s after they were stored',
    async (how) => {
      const store = createMemoryStore()
      const identity = await recover(store)
      const first = await open(store, identity)
      first.client.start()
      const stored = loseNextAnswer()
      const changing = changeKeys(first, isLost).catch((error: unknown) => error)
      await stored
      if (how === 'the process ended') {
        await first.end()
        expect(await first.actions.recoveryStage()).toBe('revoke')
        const second = await open(store, identity)
        second.client.start()
        await changeKeys(second, isLost)
      } else {
        await comesBack(first)
        expect(await changing).toBeUndefined()
      }
      expect(server.state!.epoch.n).toBe(2)
      expect(isActive(findDevice(server.state!, lostIdentity.deviceId)!)).toBe(!isLost)
      expect(activeDevices(server.state!)).toHaveLength(isLost ? 2 : 3)
    },
  )
})

describe('the new phrase of a recovery', () => {
  /** Shown, typed back and on its way; where the process stands in the recovery after it. */
  async function interruptRenewal(store: Store, identity: Identity): Promise<RecoverySheet> {
    const first = await open(store, identity)
    first.client.start()
    await changeKeys(first, true)
    expect(await first.actions.hasRenewedPhrase()).toBe(false)
    let shown: RecoverySheet | undefined
    const stored = loseNextAnswer()
    const renewing = first.actions.renewRecovery({
      oldPhrase: async () => sheet.phrase,
      confirm: async (presented) => {
        shown = presented
        return true
      },
    })
    const ended = renewing.catch((error: unknown) => error)
    await stored
    await first.end()
    expect(await ended).toBeInstanceOf(Error)
    return shown!
  }
  const verdictOf = async ({ phrase }: RecoverySheet) =>
    judgePhrase(server.state!, await toRecoveryKeys(crypto, phrase))

  test('REC-2: that was stored before the process ended is the one, and no other is asked for', async () => {
    const store = createMemoryStore()
    const identity = await recover(store)
    const shown = await interruptRenewal(store, identity)
    const second = await open(store, identity)
    second.client.start()
    expect(await second.actions.recoveryStage()).toBe('phrase')
    expect(await second.actions.hasRenewedPhrase()).toBe(true)
    expect(await verdictOf(shown)).toBe('valid')
    expect(await verdictOf(sheet)).toBe('replaced')
  })

  test('REC-2: is still to be made when another device made the one that is good now', async () => {
    const store = createMemoryStore()
    const identity = await recover(store)
    const thief = await open(lostStore, lostIdentity)
    thief.client.start()
    let planted: RecoverySheet | undefined
    const confirm = async (presented: RecoverySheet): Promise<boolean> => {
      planted = presented
      return true
    }
    expect(await thief.actions.renewRecovery({ oldPhrase: async () => sheet.phrase, confirm })).toBe('final')
    expect(await verdictOf(planted!)).toBe('valid')
    const first = await open(store, identity)
    first.client.start()
    await changeKeys(first, true)
    expect(await first.actions.hasRenewedPhrase()).toBe(false)
  })
})

describe('a device that was ended before its first event', () => {
  test('DEV-4: still tells the others its name when it is opened again, once', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'valise-home-'))
    try {
      const home = await openHome(dir, { log: noLog, checkpointEvery: 0 })
      const { transport, fingerprint } = createTestServer()
      const pinned = { url: 'ws://127.0.0.1:9', fingerprint }
      await createAccount({ ...home, transport }, { server: pinned, name: 'x', platform: 'y', signal: undefined })
      await home.close()
      for (let opening = 1; opening <= 2; opening++) {
        const device = await openNodeDevice(dir)
        const waiting = await device.client().device.outbox.read(0, 10, 100_000)
        expect(waiting.map(({ streamName }) => streamName)).toEqual([PROFILE_STREAM])
        await device.close()
      }
    } finally {
      await rm(dir, { recursive: true, force: true })
    }
  })
})
