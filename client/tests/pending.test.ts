// What a manager asks for without the phrase: shown by every device, cancelled, settled after seven days, or ended by the
// phrase. The test server keeps no time: what it should refuse, a test makes it refuse.

import { buildSuspend, findDevice, findRecovery, formatUuid, isAllZero, PENDING_MS, toHex } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { beforeEach, describe, expect, test } from 'vitest'
import { proveHeir } from '../src/account/change-recovery.ts'
import { listDevices } from '../src/account/directory.ts'
import type { PendingChange } from '../src/account/pending.ts'
import { pickDevice } from '../src/account/pick-device.ts'
import { recoverAccount } from '../src/account/recover-account.ts'
import { judgePhrase, toRecoveryKeys } from '../src/account/recovery-sheet.ts'
import { createDeviceKeys, type DeviceKeys } from '../src/sealing/device-keys.ts'
import { createMemoryStore } from '../src/store/memory-store.ts'
import { codeOf, start } from './support/revoking.ts'
import { authorOf, createFirstDevice, createNextDevice, parts, type TestDevice, text } from './support/test-device.ts'
import { createTestServer, type TestServer } from './support/test-server.ts'
import { until } from './support/until.ts'

let server: TestServer
let first: TestDevice
let second: TestDevice
let keys: DeviceKeys
let changes: PendingChange[]
/** How far the server's clock has gone since it began. */
let shiftMs: number
const typesOf = () => changes.map(({ type, pending }) => `${type} ${pending.kind}`)
const phraseOf = async () => toRecoveryKeys(crypto, first.phrase!)
const recoveryHex = () => toHex(findRecovery(server.state!)!.deviceId)
const hasSeen = (count: number) => until(() => changes.length === count, `${count} changes`)

beforeEach(async () => {
  server = createTestServer()
  server.tellsOfEntries = true
  shiftMs = 0
  server.distort = (message) => {
    if (message.type !== 'session_established') return [message]
    const { server_time, expires_at } = message
    return [{ ...message, server_time: server_time + shiftMs, expires_at: expires_at + shiftMs }]
  }
  first = await createFirstDevice(server)
  second = await createNextDevice(server, first)
  await start(first)
  await first.client.changeRole({ deviceId: second.identity.deviceId, role: 'manager' })
  await start(second)
  keys = await createDeviceKeys(crypto, 'recovery')
  changes = []
  second.client.onPending((change) => changes.push(change))
})

/**
 * Time passes at the server and on some devices, which sleep through it; then those wake up one after another. What lies
 * between is as if they had been offline.
 */
async function later(ms: number, slept: readonly TestDevice[], woken: readonly TestDevice[]): Promise<void> {
  shiftMs += ms
  server.cut()
  await until(() => woken.every(({ client }) => client.state().type !== 'live'), 'the sessions to end')
  for (const { clock } of slept) clock.sleep(ms)
  for (const { client, clock } of woken) {
    clock.advance(1000)
    await until(() => client.state().type === 'live', 'a live device')
  }
}

const askForPhrase = () => first.client.replaceRecovery({ keys, heirProof: undefined })

describe('a new phrase', () => {
  test('DEV-14: with the old one is good at once, and its proof is overwritten', async () => {
    const heirProof = await proveHeir(await phraseOf(), first.identity.userId, keys)
    expect(isAllZero(heirProof)).toBe(false)
    expect(await first.client.replaceRecovery({ keys, heirProof })).toBe('final')
    expect(judgePhrase(server.state!, keys)).toBe('valid')
    expect(judgePhrase(server.state!, await phraseOf())).toBe('replaced')
    expect(isAllZero(heirProof)).toBe(true)
    expect(changes).toEqual([])
  })

  test('DEV-14: that is given up leaves no proof that could install it', async () => {
    server.isReachable = false
    server.cut()
    await until(() => first.client.state().type !== 'live', 'the session to be lost')
    const heirProof = await proveHeir(await phraseOf(), first.identity.userId, keys)
    const giveUp = new AbortController()
    const attempt = first.client.replaceRecovery({ keys, heirProof }, giveUp.signal)
    giveUp.abort()
    await expect(attempt).rejects.toThrow()
    expect(isAllZero(heirProof)).toBe(true)
  })

  test('DEV-14: without the old one waits, is shown by the other devices, and any manager cancels it', async () => {
    const before = recoveryHex()
    expect(await askForPhrase()).toBe('pending')
    await hasSeen(1)
    expect(changes[0]).toMatchObject({
      type: 'asked',
      pending: {
        kind: 'recovery',
        isOwn: false,
        signer: first.identity.deviceId,
        dueAtMs: first.clock.now() + PENDING_MS,
      },
    })
    expect(first.client.pending()).toMatchObject([{ kind: 'recovery', isOwn: true }])
    expect(recoveryHex()).toBe(before)
    // Another listener hears of what stands.
    await second.restart()
    second.client.onPending((change) => changes.push(change))
    expect(typesOf()).toEqual(['asked recovery', 'asked recovery'])
    await start(second)
    expect(await second.client.cancelPending('recovery')).toBe(true)
    expect(typesOf()).toEqual(['asked recovery', 'asked recovery', 'ended recovery'])
    expect(second.client.pending()).toEqual([])
    expect(await second.client.cancelPending('recovery')).toBe(false)
    expect(await codeOf(first.client.settleRecovery())).toBe('nothing_pending')
    expect(judgePhrase(server.state!, await phraseOf())).toBe('valid')
  })

  test('DEV-14: is settled by the device that asked, after seven days, and by no other', async () => {
    await askForPhrase()
    await hasSeen(1)
    await later(PENDING_MS - 1000, [first, second], [second, first])
    await second.client.publish('notes', text('nothing else happens'))
    await second.client.flush()
    // The other's clock has gone on by twice as much: it is no affair of its.
    second.clock.sleep(PENDING_MS)
    await later(0, [], [second, first])
    expect(server.state!.pendingRecovery).toBeDefined()
    await later(1000, [first], [second, first])
    await until(() => server.state!.pendingRecovery === undefined, 'the settling')
    expect(judgePhrase(server.state!, keys)).toBe('valid')
    await hasSeen(2)
    expect(typesOf()).toEqual(['asked recovery', 'ended recovery'])
    // The new epoch is for the new phrase, and all go on.
    await first.client.publish('notes', text('after'))
    await first.client.flush()
  })

  test('DEV-14: that a clock put forward settles too early waits as long as the server says', async () => {
    await askForPhrase()
    let refused = 0
    server.intercept = (message, peer) => {
      if (message.type !== 'append_device_log') return false
      refused += 1
      const { request_id } = message
      const rule = 'settle_too_early'
      peer.send({ type: 'error', code: 'device_log_refused', rule, request_id, retry_after_ms: 60_000 })
      return true
    }
    await later(PENDING_MS, [first], [first])
    await until(() => refused === 1, 'the attempt')
    server.intercept = () => false
    expect(server.state!.pendingRecovery).toBeDefined()
    await until(() => {
      first.clock.advance(1000)
      return server.state!.pendingRecovery === undefined
    }, 'the settling')
    expect(judgePhrase(server.state!, keys)).toBe('valid')
  })

  test('DEV-14: that is settled early by the clock of a live device is told, and is no alarm', async () => {
    await askForPhrase()
    await hasSeen(1)
    await later(PENDING_MS, [first], [second, first])
    await hasSeen(3)
    expect(typesOf()).toEqual(['asked recovery', 'ended recovery', 'settled_early recovery'])
    expect(second.client.state().type).toBe('live')
  })

  test('DEV-14: falls with what the phrase signs', async () => {
    await askForPhrase()
    await hasSeen(1)
    const recovered = await recoverAccount(parts(server, createMemoryStore()), {
      server: { url: 'ws://server.test', fingerprint: server.fingerprint },
      recovery: await phraseOf(),
      name: 'new',
      platform: 'test',
      confirm: async () => true,
      signal: undefined,
    })
    expect(recovered).toBeDefined()
    await hasSeen(2)
    expect(typesOf()).toEqual(['asked recovery', 'ended recovery'])
    expect(judgePhrase(server.state!, keys)).toBe('foreign')
  })
})

describe('the end of an account', () => {
  test('DEV-14: with the phrase comes at once', async () => {
    expect(await first.client.closeAccount(await phraseOf())).toBe('closed')
    expect(server.state!.isClosed).toBe(true)
  })

  test('DEV-14: without it waits, and another manager cancels it', async () => {
    expect(await first.client.closeAccount(undefined)).toBe('pending')
    await hasSeen(1)
    expect(await codeOf(second.client.closeAccount(undefined))).toBe('close_pending')
    expect(await second.client.cancelPending('close')).toBe(true)
    expect(typesOf()).toEqual(['asked close', 'ended close'])
    expect(server.state!.isClosed).toBe(false)
    await second.client.revokeDevices({ deviceIds: [first.identity.deviceId], reason: 'stolen' })
    expect(findDevice(server.state, first.identity.deviceId)!.status.type).toBe('revoked')
  })

  test.each([
    ['seven days after it asked for it erases itself', PENDING_MS, 0],
    ['sooner, on the word of the server, keeps all it holds', PENDING_MS - 10_000, 1],
  ])('DEV-14: a device that is told of it %s', async (_, afterMs, kept) => {
    await first.client.closeAccount(undefined)
    await first.client.publish('notes', text('held'))
    await first.client.flush()
    await later(afterMs, [first], [first])
    server.push({ type: 'error', code: 'account_deleted' })
    await until(() => first.client.state().type === 'stopped', 'the end')
    await first.client.close()
    let keysLeft = 0
    for await (const _entry of first.store.range({ gt: 'event/', lt: 'event0' })) keysLeft += 1
    expect(keysLeft).toBe(kept)
  })
})

describe('a suspended device', () => {
  test('DEV-13: keeps what it would send, signs nothing, reads on, and is revoked at the same cut', async () => {
    await second.client.publish('notes', text('counts'))
    await second.client.flush()
    const headHere = () => first.client.device.localLog.deviceHead(second.identity.deviceId)
    await until(() => headHere() !== undefined, 'its event')
    const head = headHere()!
    const suspension = { deviceId: second.identity.deviceId, lastSeq: head.deviceSeq, chain: head.chain }
    server.append(await buildSuspend(server.state!, authorOf(first), suspension), [])
    server.push({ type: 'device_log', request_id: null, entries: [], head_seq: server.state!.seq })
    await until(() => second.client.device.book.require().seq === server.state!.seq, 'the entry')
    await second.client.publish('notes', text('stays'))
    await first.client.publish('notes', text('is read'))
    await first.client.flush()
    await until(() => second.client.cursor() === server.events.length, 'what others publish')
    expect(second.client.device.outbox.count).toBe(1)
    expect(await codeOf(second.client.flush())).toBe('suspended')
    expect(await codeOf(second.client.rotateEpoch())).toBe('device_suspended')
    const devices = await listDevices(first.client.device)
    const suspended = pickDevice(devices, formatUuid(second.identity.deviceId))
    expect(suspended.status).toBe('suspended')
    // First has applied events of it since: the cut is the suspension's all the same.
    await first.client.revokeDevices({ deviceIds: [second.identity.deviceId], reason: 'stolen' })
    expect(findDevice(server.state, second.identity.deviceId)!.status).toMatchObject({
      type: 'revoked',
      lastSeq: suspension.lastSeq,
      chain: suspension.chain,
    })
  })
})
