// Entries of the device log whose answer was lost with the session: whoever signed one finds it in the log and is told
// that it was made, and is told otherwise when somebody else made the same change.

import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { beforeEach, describe, expect, test } from 'vitest'
import { createAttempt } from '../src/account/append-entry.ts'
import { changeRole } from '../src/account/manage-devices.ts'
import type { Ask } from '../src/account/sync.ts'
import type { DeviceKeys } from '../src/sealing/device-keys.ts'
import { createRecoveryEntropy, createRecoveryKeys } from '../src/sealing/recovery.ts'
import { createFirstDevice, createNextDevice, type TestDevice } from './support/test-device.ts'
import { createTestServer, type TestServer } from './support/test-server.ts'
import { until } from './support/until.ts'

let server: TestServer
let first: TestDevice
let rival: TestDevice
let third: TestDevice
let recovery: DeviceKeys
beforeEach(async () => {
  server = createTestServer()
  first = await createFirstDevice(server)
  rival = await createNextDevice(server, first)
  third = await createNextDevice(server, first)
  recovery = await createRecoveryKeys(crypto, createRecoveryEntropy(crypto))
  first.client.start()
  await first.client.changeRole({ deviceId: rival.identity.deviceId, role: 'manager' })
  rival.client.start()
  await Promise.all([first.client.whenLive(), rival.client.whenLive()])
})

/** What both managers may set out to do. */
const CHANGES: Record<string, (by: TestDevice) => Promise<boolean>> = {
  'a revocation': ({ client }) => client.revokeDevices({ deviceIds: [third.identity.deviceId], reason: 'lost' }),
  'a role': ({ client }) => client.changeRole({ deviceId: third.identity.deviceId, role: 'manager' }),
  'a recovery phrase': async ({ client }) =>
    (await client.replaceRecovery({ keys: recovery, heirProof: undefined })) !== 'made_before',
}

/** The session ends at the next entry, which is stored or lost with it. Resolves when that has happened. */
function cutAtNextEntry(isStored: boolean): Promise<void> {
  return new Promise((resolve) => {
    server.intercept = (message, peer) => {
      if (message.type !== 'append_device_log') return false
      server.intercept = () => false
      if (isStored) server.append(message.entry, message.boxes, message.links)
      peer.close(1006, '')
      resolve()
      return true
    }
  })
}
const comesBack = async ({ client, clock }: TestDevice): Promise<void> => {
  await until(() => client.state().type !== 'live', 'the session to be lost')
  clock.advance(0)
}

describe.each(Object.entries(CHANGES))('%s whose answer was lost', (_, change) => {
  test('DEV-11: is found in the log, and told as made now', async () => {
    const { seq } = server.state!
    const cut = cutAtNextEntry(true)
    const changing = change(first)
    await cut
    await comesBack(first)
    expect(await changing).toBe(true)
    expect(server.state!.seq).toBe(seq + 1)
    expect(await change(first)).toBe(false)
  })

  test('DEV-11: that never arrived is made in the next session, once', async () => {
    const { seq } = server.state!
    const cut = cutAtNextEntry(false)
    const changing = change(first)
    await cut
    await comesBack(first)
    expect(await changing).toBe(true)
    expect(server.state!.seq).toBe(seq + 1)
  })

  test('DEV-11: and that another manager made meanwhile is told as made before', async () => {
    const { seq } = server.state!
    const cut = cutAtNextEntry(false)
    const changing = change(first)
    await cut
    expect(await change(rival)).toBe(true)
    await comesBack(first)
    expect(await changing).toBe(false)
    expect(server.state!.seq).toBe(seq + 1)
  })
})

/** What nothing outside is waited for has happened. */
const letTurnsPass = async (): Promise<void> => {
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve))
}

describe.each(['unavailable', 'rate_limited', 'storage_low'] as const)(
  'a change that the server answers with %s',
  (code) => {
    test.each([
      ['was stored all the same', true],
      ['was not stored', false],
    ])('DEV-11: and that %s, is made once, when it may be asked again', async (_, isStored) => {
      const { seq } = server.state!
      let isAnswered = false
      server.intercept = (message, peer) => {
        if (message.type !== 'append_device_log') return false
        server.intercept = () => false
        if (isStored) server.append(message.entry, message.boxes, message.links)
        peer.send({ type: 'error', code, request_id: message.request_id, retry_after_ms: 1000 })
        isAnswered = true
        return true
      }
      const changing = CHANGES['a revocation']!(first)
      await until(() => isAnswered, 'the answer')
      if (code === 'unavailable') await comesBack(first)
      else await letTurnsPass()
      await first.client.whenLive()
      // Not before the moment that the server named.
      let isAsked = false
      server.intercept = ({ type }) => {
        if (type === 'fetch_device_log') isAsked = true
        return false
      }
      first.clock.advance(999)
      await letTurnsPass()
      expect(isAsked).toBe(false)
      first.clock.advance(1)
      expect(await changing).toBe(true)
      expect(server.state!.seq).toBe(seq + 1)
    })
  },
)

describe('an entry that is stored late', () => {
  test('DEV-11: after the next session has read the log is still told as made now', async () => {
    const { seq } = server.state!
    let late: (() => void) | undefined
    server.intercept = (message, peer) => {
      if (message.type !== 'append_device_log' || late !== undefined) return false
      late = () => server.append(message.entry, message.boxes, message.links)
      peer.close(1006, '')
      return true
    }
    const changing = CHANGES['a revocation']!(first)
    await until(() => late !== undefined, 'the entry to be sent')
    server.intercept = (message) => {
      if (message.type !== 'append_device_log') return false
      server.intercept = () => false
      // What the old session had in flight is committed first.
      late?.()
      return false
    }
    await comesBack(first)
    expect(await changing).toBe(true)
    expect(server.state!.seq).toBe(seq + 1)
  })
})

describe('an entry', () => {
  test('DEV-11: that others are always faster than is given up after eight drafts, and was not made', async () => {
    const { seq } = server.state!
    let drafts = 0
    server.intercept = (message, peer) => {
      if (message.type !== 'append_device_log') return false
      drafts += 1
      peer.send({ type: 'error', code: 'log_head_moved', request_id: message.request_id })
      return true
    }
    await expect(CHANGES['a revocation']!(first)).rejects.toMatchObject({ answer: { code: 'log_head_moved' } })
    expect([drafts, server.state!.seq]).toEqual([8, seq])
  })

  test('DEV-11: that is told before its answer comes is taken once, and told as made now', async () => {
    const { book, epochKeys } = first.client.device
    const { seq } = server.state!
    const ask: Ask = async (body) => {
      if (body.type === 'fetch_device_log') {
        const entries = server.entries.slice((body.after_seq ?? -1) + 1)
        return { type: 'device_log', request_id: 1, entries, head_seq: server.state!.seq }
      }
      if (body.type !== 'append_device_log') throw new Error(`asked for ${body.type}`)
      server.append(body.entry, body.boxes)
      await book.append([body.entry])
      return { type: 'device_log_appended', request_id: 2, seq: server.state!.seq }
    }
    const { clock, identity } = first
    const manager = { crypto, clock, identity: identity.keys, book, epochKeys, attempt: createAttempt() }
    const change = { deviceId: third.identity.deviceId, role: 'manager' } as const
    expect(await changeRole(manager, ask, change)).toBe(true)
    expect([server.state!.seq, book.require().seq]).toEqual([seq + 1, seq + 1])
  })
})

test('PAIR-8: a mailbox whose opening was not answered is asked for again, and a limit is told at once', async () => {
  const seat = { mailboxId: new Uint8Array(16).fill(1), seatKey: new Uint8Array(16).fill(2) }
  const asked: unknown[] = []
  server.intercept = (message, peer) => {
    if (message.type !== 'open_pairing') return false
    const { request_id, mailbox_id, seat_key } = message
    asked.push({ mailboxId: mailbox_id, seatKey: seat_key })
    if (asked.length === 1) peer.close(1006, '')
    else if (asked.length === 2) peer.send({ type: 'error', request_id, code: 'unavailable', retry_after_ms: 700 })
    else if (asked.length === 3) peer.send({ type: 'pairing_opened', request_id, nameplate: 412, lifetime_ms: 600_000 })
    else peer.send({ type: 'error', request_id, code: 'rate_limited', retry_after_ms: 60_000 })
    return true
  }
  const opening = first.client.openPairing(seat)
  await comesBack(first)
  await until(() => asked.length === 2, 'the second request')
  await until(() => {
    first.clock.advance(100)
    return asked.length === 3
  }, 'the third request')
  expect(await opening).toEqual({ nameplate: 412, lifetimeMs: 600_000 })
  expect(asked).toEqual([seat, seat, seat])
  await expect(first.client.openPairing(seat)).rejects.toMatchObject({ answer: { code: 'rate_limited' } })
})
