// Changes of an account on a real server, with the session cut at each frame and the process ended at each step: however
// a change is interrupted, it is made once.

import { activeDevices, devicesOf } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createAccount } from '../../client/src/account/create-account.ts'
import { type Identity, loadIdentity } from '../../client/src/account/identity.ts'
import { loadRecoveryStage, recoverAccount } from '../../client/src/account/recover-account.ts'
import { judgePhrase, type RecoverySheet, toRecoveryKeys } from '../../client/src/account/recovery-sheet.ts'
import type { Client } from '../../client/src/client.ts'
import { systemClock } from '../../client/src/clock.ts'
import { createAccountActions } from '../../client/src/node/account-actions.ts'
import { createWsTransport } from '../../client/src/node/ws-transport.ts'
import { openClient } from '../../client/src/open-client.ts'
import { createRecoveryEntropy, createRecoveryKeys } from '../../client/src/sealing/recovery.ts'
import { createAtRestSealer } from '../../client/src/store/at-rest.ts'
import { createMemoryStore } from '../../client/src/store/memory-store.ts'
import type { Store } from '../../client/src/store/store.ts'
import { createAccount as createTestAccount, type TestDevice } from './support/account.ts'
import { createFrailTransport } from './support/frail-transport.ts'
import { startTestServer, type TestServer } from './support/server.ts'

/** Some fifty steps, two processes each. */
const RECOVERIES_DEADLINE_MS = 240_000

let server: TestServer
beforeAll(async () => {
  server = await startTestServer({ database: 'pglite' })
})
afterAll(() => server?.close())

const sealer = createAtRestSealer(crypto.randomBytes(32), crypto)
const pin = () => ({ url: server.url, fingerprint: server.fingerprint })
/** The parts of a device whose frames ask `passes`. */
const partsOver = (store: Store, passes: () => boolean) => ({
  store,
  sealer,
  crypto,
  clock: systemClock,
  transport: createFrailTransport(createWsTransport({ maxFrameBytes: 2 ** 20 }), passes),
  clientInfo: 'test',
})
const open = (store: Store, identity: Identity, passes: () => boolean): Promise<Client> =>
  openClient({ ...partsOver(store, passes), identity, random: () => 0, log: () => {}, checkpointEvery: 0 })

describe('a session that is cut at each frame of a change', () => {
  const identityOf = ({ userId, deviceId, keys }: TestDevice): Identity => {
    return { userId, deviceId, keys, name: 'sdk', platform: 'test', server: pin() }
  }

  /** Makes the change again and again, each time cut one frame later, until it ends before the cut. How often it was cut. */
  async function cutEverywhere(change: (client: Client, round: number) => Promise<boolean>): Promise<number> {
    const account = await createTestAccount(server, { devices: 30 })
    const [manager, reader] = account.devices as [TestDevice, TestDevice]
    let framesLeft = Number.POSITIVE_INFINITY
    const client = await open(createMemoryStore(), identityOf(manager), () => {
      framesLeft -= 1
      return framesLeft !== 0
    })
    client.start()
    await client.whenLive()
    let cuts = 0
    for (let round = 1; ; round++) {
      const { seq, epoch } = client.device.book.require()
      framesLeft = round
      expect(await change(client, round)).toBe(true)
      const isCut = framesLeft <= 0
      framesLeft = Number.POSITIVE_INFINITY
      await client.whenLive()
      expect(client.device.book.require().seq).toBe(seq + 1)
      expect(client.device.book.require().epoch.n - epoch.n).toBeLessThanOrEqual(1)
      if (!isCut) break
      cuts += 1
    }
    // Whoever was not there for any of it reads what follows.
    const other = await open(createMemoryStore(), identityOf(reader), () => true)
    other.start()
    await client.publish('notes', { type: 'text', body: new Uint8Array([1]) })
    await client.flush()
    for await (const { content } of other.events('notes')) {
      expect(content.body).toEqual(new Uint8Array([1]))
      break
    }
    await Promise.all([client.close(), other.close()])
    return cuts
  }

  // A request and its answer, for the log and for the entry.
  const FEWEST_FRAMES = 4

  test('DEV-11: a revocation is one, and told as made now', async () => {
    const cuts = await cutEverywhere((client, round) => {
      const victims = devicesOf(client.device.book.require()).filter(({ record }) => record.role === 'member')
      // Not the one that reads in the end.
      return client.revokeDevices({ deviceIds: [victims[round]!.deviceId], reason: 'lost' })
    })
    expect(cuts).toBeGreaterThanOrEqual(FEWEST_FRAMES)
  })

  test('DEV-11: an epoch is one', async () => {
    const cuts = await cutEverywhere(async (client) => {
      const { n } = client.device.book.require().epoch
      return (await client.rotateEpoch()) === n + 1
    })
    expect(cuts).toBeGreaterThanOrEqual(FEWEST_FRAMES)
  })

  test('DEV-11: a role is given once, and told as given now', async () => {
    const cuts = await cutEverywhere((client, round) => {
      const devices = devicesOf(client.device.book.require())
      return client.changeRole({ deviceId: devices[round + 1]!.deviceId, role: 'manager' })
    })
    expect(cuts).toBeGreaterThanOrEqual(FEWEST_FRAMES)
  })

  test('DEV-11: a phrase takes the place of the one before, once', async () => {
    const cuts = await cutEverywhere(async (client) => {
      const keys = await createRecoveryKeys(crypto, createRecoveryEntropy(crypto))
      const outcome = await client.replaceRecovery({ keys, heirProof: undefined })
      const log = client.device.book.require()
      // The first takes the place of none; the next ones are asked for without the one before.
      if (outcome === 'final') expect(judgePhrase(log, keys)).toBe('valid')
      else expect(log.pendingRecovery?.record.edPub).toEqual(keys.record.edPub)
      return outcome !== 'made_before'
    })
    expect(cuts).toBeGreaterThanOrEqual(FEWEST_FRAMES)
  })
})

describe('a recovery whose process ends at each step', () => {
  interface Scene {
    readonly sheet: RecoverySheet
    readonly store: Store
    /** Each phrase that the person has written down since, the last one last. */
    readonly written: RecoverySheet[]
    readonly isAnyLost: boolean
  }

  async function newScene(isAnyLost: boolean): Promise<Scene> {
    const parts = partsOver(createMemoryStore(), () => true)
    const account = { server: pin(), name: 'old', platform: 'test', signal: undefined }
    const { sheet } = await createAccount(parts, account)
    return { sheet, store: createMemoryStore(), written: [], isAnyLost }
  }

  /** What `valise recover` does, in one process that ends at the given step; true when it came to its end. */
  async function runUntil({ sheet, store, written, isAnyLost }: Scene, endsAt: number): Promise<boolean> {
    let steps = 0
    let end: (reason: Error) => void
    const ended = new Promise<never>((_, reject) => {
      end = reject
    })
    ended.catch(() => {})
    /** A frame or a write to the store happens, unless the process has ended. */
    const passes = (): boolean => {
      steps += 1
      if (steps >= endsAt) end(new Error('the process ended'))
      return steps < endsAt
    }
    const mortal: Store = {
      ...store,
      batch: async (operations) => {
        if (!passes()) throw new Error('the process ended')
        await store.batch(operations)
      },
    }
    let client: Client | undefined
    const recover = async (): Promise<true> => {
      const stage = await loadRecoveryStage(mortal)
      const stored = await loadIdentity(crypto, mortal, sealer)
      const identity = stage !== undefined && stored !== undefined ? stored : await enter()
      const opened = await open(mortal, identity, passes)
      client = opened
      if (identity !== stored) await opened.publishProfile()
      const actions = createAccountActions({
        store: mortal,
        sealer,
        crypto,
        require: () => ({ identity, client: opened }),
        adopt: () => {},
        checkName: (name) => name,
      })
      if ((await actions.recoveryStage()) === 'revoke') {
        const devices = await actions.currentDevices()
        const lost = devices.filter(
          ({ isThisDevice, role, status }) => !isThisDevice && role === 'manager' && status === 'active',
        )
        await actions.recoverKeys(isAnyLost ? lost : [])
      }
      if ((await actions.recoveryStage()) === 'phrase' && !(await actions.hasRenewedPhrase())) {
        await actions.renewRecovery({
          oldPhrase: async () => sheet.phrase,
          confirm: async (shown) => written.push(shown) > 0,
        })
      }
      await actions.endRecovery()
      return true
    }
    const enter = async (): Promise<Identity> => {
      const recovered = await recoverAccount(partsOver(mortal, passes), {
        server: pin(),
        recovery: await toRecoveryKeys(crypto, sheet.phrase),
        name: 'new',
        platform: 'test',
        confirm: async () => true,
        signal: undefined,
      })
      return recovered!
    }
    try {
      return await Promise.race([recover(), ended])
    } catch {
      return false
    } finally {
      await client?.close()
    }
  }

  test.each([
    ['with a lost device', true],
    ['without one', false],
  ])(
    'REC-2: %s signs one device in, changes the keys once, and leaves one phrase good',
    async (_, isAnyLost) => {
      let endsAt = 1
      for (let isDone = false; !isDone; endsAt++) {
        const scene = await newScene(isAnyLost)
        isDone = await runUntil(scene, endsAt)
        if (!isDone) expect(await runUntil(scene, Number.POSITIVE_INFINITY)).toBe(true)
        expect(await loadRecoveryStage(scene.store)).toBeUndefined()
        const identity = (await loadIdentity(crypto, scene.store, sealer))!
        const client = await open(scene.store, identity, () => true)
        client.start()
        await client.whenLive()
        const log = client.device.book.require()
        // Genesis, the device, the keys, the phrase.
        expect([endsAt, log.seq, log.epoch.n]).toEqual([endsAt, 3, 3])
        const roles = activeDevices(log).map(({ record }) => record.role)
        expect(roles.sort()).toEqual(isAnyLost ? ['manager', 'recovery'] : ['manager', 'manager', 'recovery'])
        const verdicts = await Promise.all(
          [scene.sheet, ...scene.written].map(async ({ phrase }) =>
            judgePhrase(log, await toRecoveryKeys(crypto, phrase)),
          ),
        )
        expect(verdicts.filter((verdict) => verdict === 'valid')).toHaveLength(1)
        expect(verdicts.at(-1)).toBe('valid')
        await client.close()
      }
      // A handshake, the log and an entry, twice over, are more than this.
      expect(endsAt).toBeGreaterThan(20)
    },
    RECOVERIES_DEADLINE_MS,
  )
})
