// Recovery on a machine that has nothing else, interrupted at every step, and each phrase that recovers nothing.

import { activeDevices, devicesOf, findDevice } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { beforeEach, describe, expect, test } from 'vitest'
import { proveHeir } from '../src/account/change-recovery.ts'
import { createAccount } from '../src/account/create-account.ts'
import { type Identity, loadIdentity } from '../src/account/identity.ts'
import { loadRecoveryStage, type RecoverableAccount, recoverAccount } from '../src/account/recover-account.ts'
import { isSamePhrase, judgePhrase, type RecoverySheet, toRecoveryKeys } from '../src/account/recovery-sheet.ts'
import { SetupError } from '../src/account/setup-error.ts'
import type { Client } from '../src/client.ts'
import { noLog } from '../src/client-log.ts'
import { openClient } from '../src/open-client.ts'
import { createMemoryStore } from '../src/store/memory-store.ts'
import type { Store } from '../src/store/store.ts'
import { parts, sealer, take, text } from './support/test-device.ts'
import { createTestServer, type TestServer } from './support/test-server.ts'
import { until } from './support/until.ts'

let server: TestServer
let sheet: RecoverySheet
let lost: Client
beforeEach(async () => {
  server = createTestServer()
  const store = createMemoryStore()
  const created = await createAccount(parts(server, store), {
    ...pin(),
    name: 'lost',
    platform: 'test',
    signal: undefined,
  })
  sheet = created.sheet
  lost = await open(store, created.identity)
  lost.start()
  await lost.publish('notes', text('a'))
  await lost.rotateEpoch()
  await lost.publish('notes', text('b'))
  await lost.flush()
})

const pin = () => ({ server: { url: 'ws://server.test', fingerprint: server.fingerprint } })
const open = (store: Store, identity: Identity): Promise<Client> =>
  openClient({ ...parts(server, store), identity, random: () => 0, log: noLog, checkpointEvery: 0 })

const recover = async (store: Store, phrase = sheet.phrase, confirm = async (_account: RecoverableAccount) => true) =>
  recoverAccount(parts(server, store), {
    ...pin(),
    recovery: await toRecoveryKeys(crypto, phrase),
    name: 'new',
    platform: 'test',
    confirm,
    signal: undefined,
  })
const codeOf = (attempt: Promise<unknown>): Promise<string> =>
  attempt.then(
    () => 'done',
    (error: unknown) => (error instanceof SetupError ? error.code : String(error)),
  )

describe('a recovery', () => {
  test('REC-1, REC-2: shows the account, makes this device its manager, opens the history and cuts the lost one off', async () => {
    const store = createMemoryStore()
    const shown: RecoverableAccount[] = []
    const identity = (await recover(store, sheet.phrase.toUpperCase(), async (account) => {
      shown.push(account)
      return true
    }))!
    expect(shown).toMatchObject([{ userIdStart: sheet.userIdStart, devices: [{ role: 'manager' }] }])
    expect(findDevice(server.state!, identity.deviceId)!.record.role).toBe('manager')
    expect(await loadRecoveryStage(store)).toBe('revoke')
    const client = await open(store, identity)
    client.start()
    expect(await take(client, 'notes', 2)).toEqual(['a', 'b'])
    expect(await client.revokeDevices({ deviceIds: [shown[0]!.devices[0]!.deviceId], reason: 'lost' })).toBe(true)
    expect(server.state!.epoch.n).toBe(3)
    const renewed = await toRecoveryKeys(crypto, `${'abandon '.repeat(11)}about`)
    const old = await toRecoveryKeys(crypto, sheet.phrase)
    const heirProof = await proveHeir(old, identity.userId, renewed)
    expect(await client.replaceRecovery({ keys: renewed, heirProof })).toBe('final')
    expect(judgePhrase(server.state!, renewed)).toBe('valid')
    expect(judgePhrase(server.state!, await toRecoveryKeys(crypto, sheet.phrase))).toBe('replaced')
    expect(activeDevices(server.state!)).toHaveLength(2)
    // The new phrase recovers what was written since, the old one nothing.
    await client.publish('notes', text('c'))
    await client.flush()
    const again = createMemoryStore()
    const third = await open(again, (await recover(again, `${'abandon '.repeat(11)}about`))!)
    third.start()
    expect(await take(third, 'notes', 3)).toEqual(['a', 'b', 'c'])
  })

  test('REC-2: the device knows at once, and after a restart, that it is a manager, whether a server answers or not', async () => {
    const store = createMemoryStore()
    const identity = (await recover(store))!
    server.isReachable = false
    const { book } = (await open(store, identity)).device
    expect(findDevice(book.state, identity.deviceId)?.record.role).toBe('manager')
    expect(book.compare({ seq: server.state!.seq, head: server.state!.head })).toBe('known')
  })

  test('REC-2: that was begun for one account makes a device of its own for another', async () => {
    const store = createMemoryStore()
    const first = (await recover(store))!
    expect(await loadRecoveryStage(store)).toBe('revoke')
    // The same server, with an account of somebody else.
    server = createTestServer()
    const other = await createAccount(parts(server, createMemoryStore()), {
      ...pin(),
      name: 'other',
      platform: 'test',
      signal: undefined,
    })
    const second = (await recover(store, other.sheet.phrase))!
    expect(second.userId).toEqual(other.identity.userId)
    expect(second.deviceId).not.toEqual(first.deviceId)
    expect(findDevice(server.state!, second.deviceId)!.record.role).toBe('manager')
  })

  test('REC-2: that was declined has changed nothing', async () => {
    const store = createMemoryStore()
    expect(await recover(store, sheet.phrase, async () => false)).toBeUndefined()
    expect(server.state!.seq).toBe(1)
    for await (const [key] of store.range({})) throw new Error(`it kept ${key}`)
  })

  /** What is left when the process ends at its nth write: the store before it. */
  function breakingAt(store: Store, at: number): Store {
    let writes = 0
    return {
      ...store,
      batch: async (operations) => {
        writes += 1
        if (writes >= at) throw new Error('the process ended')
        await store.batch(operations)
      },
    }
  }

  test.each([1, 2, 3])(
    'REC-2: ended at its write %i, it goes on when it is begun again, with one device',
    async (at) => {
      const store = createMemoryStore()
      expect(await codeOf(recover(breakingAt(store, at)))).toBe('Error: the process ended')
      expect(await loadIdentity(crypto, store, sealer)).toBeUndefined()
      const identity = (await recover(store))!
      const added = devicesOf(server.state!).filter(({ addedSeq }) => addedSeq > 1)
      expect(added.map(({ deviceId }) => deviceId)).toEqual([identity.deviceId])
      const client = await open(store, identity)
      client.start()
      expect(await take(client, 'notes', 2)).toEqual(['a', 'b'])
    },
  )

  test.each(['fetch_device_log', 'fetch_envelopes', 'append_device_log'] as const)(
    'REC-2: cut off at its %s, before or after the server has done it, it goes on with one device',
    async (type) => {
      for (const isDone of [false, true]) {
        const store = createMemoryStore()
        const before = server.state!.devices.size
        let isCut = false
        server.intercept = (message, peer) => {
          if (message.type !== type || isCut) return false
          isCut = true
          if (isDone && message.type === 'append_device_log') {
            server.append(message.entry, message.boxes, message.links)
          }
          peer.close(1006, '')
          return true
        }
        expect(await codeOf(recover(store))).toBe('server_unreachable')
        server.intercept = () => false
        expect(isCut).toBe(true)
        expect(await recover(store)).toBeDefined()
        expect(server.state!.devices.size).toBe(before + 1)
      }
    },
  )

  test('REC-2: of a server that cannot answer it says so, and goes on with one device', async () => {
    const store = createMemoryStore()
    server.intercept = (message, peer) => {
      if (message.type !== 'append_device_log') return false
      // As when the database went away while it committed.
      server.append(message.entry, message.boxes, message.links)
      peer.send({ type: 'error', code: 'unavailable', request_id: message.request_id, retry_after_ms: 1000 })
      return true
    }
    expect(await codeOf(recover(store))).toBe('server_unreachable')
    server.intercept = () => false
    expect(await recover(store)).toBeDefined()
    expect(server.state!.devices.size).toBe(3)
  })

  test('REC-2: without a server it says so, and keeps nothing', async () => {
    server.isReachable = false
    const store = createMemoryStore()
    expect(await codeOf(recover(store))).toBe('server_unreachable')
    expect(await loadRecoveryStage(store)).toBeUndefined()
  })
})

describe('a phrase', () => {
  test('REC-3: that is none is told by the place of the word, and never repeated', async () => {
    const words = sheet.phrase.split(' ')
    words[4] = 'notaword'
    const error = await toRecoveryKeys(crypto, words.join(' ')).catch((failure: unknown) => failure)
    expect(error).toMatchObject({ code: 'bad_phrase', message: expect.stringContaining('Word 5 ') })
    expect(String(error)).not.toContain('notaword')
    for (const text of ['', 'one two', `${'zoo '.repeat(12)}`]) {
      expect(await codeOf(toRecoveryKeys(crypto, text))).toBe('bad_phrase')
    }
  })

  test('REC-3: of another account, or replaced, recovers nothing and signs nothing', async () => {
    const foreign = `${'abandon '.repeat(11)}about`
    expect(await codeOf(recover(createMemoryStore(), foreign))).toBe('phrase_unknown')
    const { seq } = server.state!
    const keys = await toRecoveryKeys(crypto, foreign)
    const old = await toRecoveryKeys(crypto, sheet.phrase)
    const heirProof = await proveHeir(old, server.state!.userId, keys)
    expect(await lost.replaceRecovery({ keys, heirProof })).toBe('final')
    // The real server refuses it in the handshake; one that let it in would show the log that says so.
    expect(await codeOf(recover(createMemoryStore()))).not.toBe('done')
    expect(server.state!.seq).toBe(seq + 1)
  })

  test('REC-4: is checked against the device log alone', async () => {
    server.isReachable = false
    const log = lost.device.book.require()
    expect(judgePhrase(log, await toRecoveryKeys(crypto, ` ${sheet.phrase.replaceAll(' ', '  ')}\n`))).toBe('valid')
    expect(judgePhrase(log, await toRecoveryKeys(crypto, `${'abandon '.repeat(11)}about`))).toBe('foreign')
    expect(isSamePhrase(sheet.phrase, sheet.phrase.toUpperCase())).toBe(true)
    expect(isSamePhrase(sheet.phrase, `${'abandon '.repeat(11)}about`)).toBe(false)
    expect(isSamePhrase('nonsense', 'nonsense')).toBe(false)
  })

  test('REC-1: that was not typed back makes no account', async () => {
    const other = createTestServer()
    const store = createMemoryStore()
    let shown: RecoverySheet | undefined
    const attempt = createAccount(parts(other, store), {
      server: { url: 'ws://server.test:99', fingerprint: other.fingerprint },
      name: 'x',
      platform: 'test',
      confirmPhrase: async (presented) => {
        shown = presented
        return false
      },
      signal: undefined,
    })
    expect(await codeOf(attempt)).toBe('phrase_unconfirmed')
    expect(shown).toMatchObject({ host: 'server.test:99', userIdStart: expect.stringMatching(/^[0-9a-f]{10}$/) })
    await until(() => other.peers.size === 0, 'nobody')
    expect(other.state).toBeUndefined()
  })
})
