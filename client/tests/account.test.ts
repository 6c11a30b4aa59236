// The account on a device: the pinned device log, the epoch keys, and what is kept of either.

import { activeDevices, buildRotate, type DeviceLogState, isAllZero, toBase64Url } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { beforeEach, describe, expect, test } from 'vitest'
import { openEpochKeys } from '../src/account/epoch-keys.ts'
import { formatDeviceFingerprint } from '../src/account/fingerprint.ts'
import { contactAlone, contactServer, type UnprovenServer } from '../src/account/first-contact.ts'
import { loadIdentity, saveIdentity } from '../src/account/identity.ts'
import { type LogBook, openLogBook } from '../src/account/log-book.ts'
import { type Ask, readDeviceLog, readEpochKeys } from '../src/account/sync.ts'
import { AlarmError } from '../src/alarm.ts'
import type { Http } from '../src/http.ts'
import { sealNextEpoch } from '../src/sealing/epoch-boxes.ts'
import { createMemoryStore } from '../src/store/memory-store.ts'
import type { Store } from '../src/store/store.ts'
import { createFirstDevice, rotateEpoch, sealer, type TestDevice } from './support/test-device.ts'
import { createTestServer, type TestServer } from './support/test-server.ts'

let server: TestServer
let first: TestDevice
let store: Store
beforeEach(async () => {
  server = createTestServer()
  first = await createFirstDevice(server)
  store = createMemoryStore()
})

const codeOf = async (attempt: Promise<unknown>): Promise<string> => {
  const error = await attempt.then(
    () => undefined,
    (failure: unknown) => failure,
  )
  return error instanceof AlarmError ? error.alarm.code : String(error)
}
const openBook = (): Promise<LogBook> => openLogBook({ store, crypto, userId: first.identity.userId })
/** Another entry after `state`, signed by the first device. */
const rotatedAfter = async (state: DeviceLogState): Promise<Uint8Array> => {
  const older = [{ n: 1, secret: first.client.device.epochKeys.secretOf(1)! }]
  const members = activeDevices(state).map(({ record }) => record)
  const epoch = await sealNextEpoch(crypto, state, members, older)
  const author = { signer: first.identity.keys.signer, deviceId: first.identity.deviceId, timeMs: 1 }
  return buildRotate(state, author, epoch.start)
}

describe('the device log', () => {
  test('DEV-1: is verified from genesis, kept, and verified again at the next start', async () => {
    await rotateEpoch(server, first)
    const book = await openBook()
    expect(book.state).toBeUndefined()
    await book.append(server.entries)
    const reopened = await openBook()
    expect(reopened.require()).toEqual(server.state)
    expect(reopened.headAt(1)).toEqual(server.state!.head)
    expect(reopened.compare({ seq: 1, head: server.state!.head })).toBe('known')
    expect(reopened.compare({ seq: 0, head: server.state!.head })).toBe('contradiction')
    expect(reopened.compare({ seq: 2, head: server.state!.head })).toBe('ahead')
  })

  test('DEV-1: an entry that breaks a rule or continues another log changes nothing', async () => {
    const book = await openBook()
    await book.append(server.entries)
    const before = book.require()
    const good = await rotatedAfter(before)
    const bad = good.slice()
    bad[bad.length - 10]! ^= 1
    expect(await codeOf(book.append([good, bad]))).toMatch(/device_log_/)
    await rotateEpoch(server, first)
    const another = await rotatedAfter(server.state!)
    expect(await codeOf(book.append([good, another]))).toBe('device_log_forked')
    expect(book.require()).toBe(before)
    expect((await openBook()).require().seq).toBe(0)
  })

  test('DEV-1: another user’s log, and a copy that was changed on the disk', async () => {
    const stranger = await createFirstDevice(createTestServer())
    const book = await openLogBook({ store, crypto, userId: stranger.identity.userId })
    expect(await codeOf(book.append(server.entries))).toBe('device_log_forked')
    const own = await openBook()
    await own.append(server.entries)
    for await (const [key, value] of store.range({})) {
      await store.batch([
        { type: 'put', key, value: Uint8Array.from(value, (byte, i) => (i === 50 ? byte ^ 1 : byte)) },
      ])
    }
    expect(await codeOf(openBook())).toBe('store_damaged')
  })

  test('DEV-1: is read in pages; a server that stops short or repeats itself is an alarm', async () => {
    for (let i = 0; i < 2; i++) {
      await rotateEpoch(server, first)
      first.client.device.epochKeys.keep(i + 2, new Uint8Array(32))
    }
    const answer = (entries: (after: number) => Uint8Array[], head_seq: number): Ask => {
      return async (body) => {
        if (body.type !== 'fetch_device_log') throw new Error('another question')
        return { type: 'device_log', request_id: 1, entries: entries((body.after_seq ?? -1) + 1), head_seq }
      }
    }
    const oneByOne = answer((next) => server.entries.slice(next, next + 1), 2)
    const book = await openBook()
    await readDeviceLog(oneByOne, book)
    expect(book.require().seq).toBe(2)
    expect(await codeOf(readDeviceLog(oneByOne, book, 3))).toBe('device_log_shorter')
    expect(
      await codeOf(
        readDeviceLog(
          answer(() => [], 9),
          book,
        ),
      ),
    ).toBe('device_log_shorter')
    expect(
      await codeOf(
        readDeviceLog(
          answer(() => [], 1),
          book,
        ),
      ),
    ).toBe('device_log_shorter')
  })
})

describe('epoch keys', () => {
  const openKeys = () =>
    openEpochKeys({ store, sealer, crypto, keys: first.identity.keys, userId: first.identity.userId })

  const openRotated = async (): Promise<LogBook> => {
    await rotateEpoch(server, first)
    const book = await openBook()
    await book.append(server.entries)
    return book
  }
  const flip = (bytes: Uint8Array): Uint8Array => bytes.map((byte, i) => (i === 40 ? byte ^ 1 : byte))

  test('DEV-2: are opened from boxes or from the link behind, kept sealed, and known again', async () => {
    const log = (await openRotated()).require()
    const { boxes, links } = server.envelopes(first.identity.deviceId)
    boxes.delete(1)
    const keys = await openKeys()
    expect(keys.firstMissing(log)).toBe(1)
    expect(keys.streamId('notes')).toBeUndefined()
    await keys.receive(log, { boxes, links })
    const reopened = await openKeys()
    expect(reopened.firstMissing(log)).toBeUndefined()
    expect(reopened.secretOf(1)).toEqual(first.client.device.epochKeys.secretOf(1))
    expect(reopened.contentKey(2)).not.toEqual(reopened.contentKey(1))
    expect(reopened.streamId('notes')).toEqual(first.client.device.epochKeys.streamId('notes'))
    for await (const [key, value] of store.range({ gt: 'epoch/', lt: 'epoch0' })) {
      expect(Buffer.from(value).includes(Buffer.from(reopened.secretOf(Number(key.slice(-16)))!))).toBe(false)
    }
  })

  test('DEV-2: a box or a link that does not fit the log, or none at all, is an alarm and leaves nothing', async () => {
    const log = (await openRotated()).require()
    const { deviceId } = first.identity
    const honest = () => server.envelopes(deviceId)
    const broken = [honest(), honest(), honest(), honest(), honest()]
    broken[0]!.boxes.set(2, flip(broken[0]!.boxes.get(2)!))
    broken[1]!.boxes.set(2, broken[1]!.boxes.get(1)!)
    broken[2]!.boxes.delete(1)
    broken[2]!.links.get(2)!.set(1, flip(broken[2]!.links.get(2)!.get(1)!))
    broken[3]!.boxes.clear()
    // The link would open the epoch, and the box that does not fit is an alarm all the same.
    broken[4]!.boxes.set(1, flip(broken[4]!.boxes.get(1)!))
    for (const envelopes of broken) {
      const keys = await openKeys()
      expect(await codeOf(keys.receive(log, envelopes))).toBe('epoch_key_invalid')
      expect(keys.firstMissing(log)).toBe(1)
      expect((await openKeys()).firstMissing(log)).toBe(1)
    }
  })

  test('DEV-9: what is forgotten is overwritten, and makes no key any more', async () => {
    const book = await openRotated()
    const keys = await openKeys()
    await keys.receive(book.require(), server.envelopes(first.identity.deviceId))
    const held = [1, 2].flatMap((n) => [keys.secretOf(n)!, keys.contentKey(n)!])
    expect(held.some(isAllZero)).toBe(false)
    expect(keys.streamId('notes')).toBeDefined()
    keys.forget()
    expect(held.every(isAllZero)).toBe(true)
    for (const n of [1, 2]) expect([keys.secretOf(n), keys.contentKey(n)]).toEqual([undefined, undefined])
    expect(keys.streamId('notes')).toBeUndefined()
  })

  test('DEV-2: pages of envelopes are followed to the last, and never round in circles', async () => {
    const book = await openRotated()
    const keys = await openKeys()
    const { boxes, links } = server.envelopes(first.identity.deviceId)
    const page = (after: number, is_last: boolean): Awaited<ReturnType<Ask>> => ({
      type: 'envelopes',
      request_id: 1,
      boxes: [...boxes].filter(([n]) => n === after + 1).map(([epoch, box]) => ({ epoch, box })),
      links: [...(links.get(after + 1) ?? [])].map(([prev_epoch, box]) => ({ epoch: after + 1, prev_epoch, box })),
      is_last,
    })
    const circling: Ask = async () => page(0, false)
    expect(await codeOf(readEpochKeys(circling, book, keys))).toBe('malformed_message')
    const honest: Ask = async (body) => {
      if (body.type !== 'fetch_envelopes') throw new Error('another question')
      return page(body.after_epoch, body.after_epoch === 1)
    }
    await readEpochKeys(honest, book, keys)
    expect(keys.firstMissing(book.require())).toBeUndefined()
  })
})

describe('the identity', () => {
  test('P1: is kept sealed and read again as it was', async () => {
    const { identity } = first
    await store.batch([saveIdentity(sealer, identity)])
    expect(await loadIdentity(crypto, store, sealer)).toMatchObject({
      userId: identity.userId,
      deviceId: identity.deviceId,
      name: 'first',
      server: identity.server,
    })
    const stored = Buffer.from((await store.get('identity'))!)
    expect(stored.includes(Buffer.from(identity.keys.secrets.signSeed))).toBe(false)
    expect(await loadIdentity(crypto, createMemoryStore(), sealer)).toBeUndefined()
  })

  test('a device is compared by eight groups of four', () => {
    expect(formatDeviceFingerprint(first.identity.deviceId)).toMatch(/^([0-9a-f]{4} ){7}[0-9a-f]{4}$/)
  })
})

describe('the first contact', () => {
  const contact = (http: Http, fingerprint?: string, serverUrl = 'ws://s') =>
    contactServer({ http, crypto }, { serverUrl, fingerprint, signal: undefined })
  const answering =
    (status: number, body: unknown): Http =>
    async () => ({ status, body: new TextEncoder().encode(JSON.stringify(body)) })
  const b64 = Buffer.alloc(32, 1).toString('base64url')

  test('takes the fingerprint that a person gives, and else the one the server names', async () => {
    const [fingerprint, nextFingerprint] = [1, 2].map((value) => new Uint8Array(32).fill(value))
    const next = toBase64Url(nextFingerprint!)
    const server = { url: 'ws://s', fingerprint, nextFingerprint }
    const named = answering(200, { server_id: b64, fingerprint: b64, next_fingerprint: next, later: true })
    expect(await contact(named)).toEqual({ server, registration: undefined })
    expect(await contact(named, b64)).toEqual({ server, registration: undefined })
    const invited = answering(200, {
      server_id: b64,
      fingerprint: b64,
      next_fingerprint: next,
      registration: 'invite',
    })
    expect(await contact(invited)).toEqual({ server, registration: 'invite' })
    // What is given counts, whatever the server names: the handshake compares.
    const other = new Uint8Array(32).fill(3)
    expect(await contact(named, `${b64}.${toBase64Url(other)}`)).toMatchObject({
      server: { fingerprint, nextFingerprint: other },
    })
    expect(await contact(named, toBase64Url(other))).toMatchObject({
      server: { fingerprint: other, nextFingerprint: undefined },
    })
  })

  test('says what is wrong with an address, a fingerprint or an answer', async () => {
    const good = answering(200, { server_id: b64, fingerprint: b64, next_fingerprint: b64 })
    await expect(contact(good, undefined, 'http://s')).rejects.toMatchObject({ code: 'bad_server_url' })
    for (const bad of ['abc', '', `${b64}.`, `.${b64}`, `${b64}.abc`, `${b64}.${b64}.${b64}`]) {
      await expect(contact(good, bad)).rejects.toMatchObject({ code: 'bad_fingerprint' })
    }
    await expect(contact(answering(404, {}))).rejects.toMatchObject({ code: 'wrong_server' })
    await expect(contact(answering(403, { code: 'unknown_host' }))).rejects.toThrow('VALISE_ORIGINS')
    await expect(contact(answering(403, 'hello'))).rejects.toThrow('no Valise server')
    await expect(contact(answering(200, 'hello'))).rejects.toMatchObject({ code: 'wrong_server' })
    await expect(contact(answering(200, { server_id: b64, fingerprint: 'AA' }))).rejects.toMatchObject({
      code: 'wrong_server',
    })
    const away: Http = async () => {
      throw new Error('connection refused')
    }
    await expect(contact(away)).rejects.toMatchObject({ code: 'server_unreachable' })
  })

  test('CLI-10: over ws:// to another machine a device on its own trusts what answers only when it is confirmed', async () => {
    const named = answering(200, { server_id: b64, fingerprint: b64, next_fingerprint: b64 })
    const asked: UnprovenServer[] = []
    const alone = (serverUrl: string, answer?: boolean, fingerprint?: string) => {
      const confirm = async (server: UnprovenServer) => {
        asked.push(server)
        return answer ?? false
      }
      const contactOf = { serverUrl, fingerprint, signal: undefined }
      return contactAlone({ http: named, crypto }, contactOf, answer === undefined ? undefined : confirm)
    }
    const elsewhere = [
      'ws://s',
      'ws://192.0.2.1:8787',
      'ws://[2001:db8::1]',
      'ws://localhost.evil.example',
      'ws://128.0.0.1',
    ]
    for (const url of elsewhere) {
      await expect(alone(url), url).rejects.toMatchObject({ code: 'unverified_server' })
      await expect(alone(url, false), url).rejects.toMatchObject({ code: 'unverified_server' })
      expect(await alone(url, true), url).toMatchObject({ server: { url } })
      expect(asked.splice(0), url).toEqual([1, 2].map(() => ({ serverUrl: url, fingerprint: b64 })))
      expect(await alone(url, false, b64), url).toMatchObject({ server: { url } })
    }
    const safe = [
      'wss://s',
      'ws://localhost:1',
      'ws://a.localhost',
      'ws://127.0.0.1:8787',
      'ws://127.9.9.9',
      'ws://[::1]:1',
    ]
    for (const url of safe) expect(await alone(url), url).toMatchObject({ server: { url } })
    expect(asked).toEqual([])
  })
})
