// Linking by hand, over mailboxes in memory: the honest way, and everybody who interferes.

import { applyEntry, buildAdd, type DeviceRecord, findDevice, toHex } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { beforeEach, describe, expect, test } from 'vitest'
import { AccountError } from '../src/account/account-error.ts'
import type { ServerPin } from '../src/account/identity.ts'
import { SetupError } from '../src/account/setup-error.ts'
import type { Clock } from '../src/clock.ts'
import type { Http } from '../src/http.ts'
import { type ApproveParts, approveRequest, askToJoin, type NewDevice } from '../src/link/link.ts'
import { createMailbox, type Mailbox } from '../src/link/mailbox.ts'
import { encodeIntroduction, parseDone, parseIntroduction, parseInvitation } from '../src/link/messages.ts'
import {
  createLinkRequest,
  formatLinkRequest,
  type LinkRequest,
  parseLinkRequest,
  pinOfRequest,
} from '../src/link/request.ts'
import { createDeviceKeys, type DeviceKeys } from '../src/sealing/device-keys.ts'
import { sealBoxForNewDevice } from '../src/sealing/epoch-boxes.ts'
import { createPulse } from '../src/signal.ts'
import { type Account, authorOf, createAccount } from './support/sealed-account.ts'

const SERVER = new Uint8Array(32).fill(5)
const OTHER_SERVER = new Uint8Array(32).fill(6)
const NEXT = new Uint8Array(32).fill(8)
const PINNED = { url: 'ws://s', fingerprint: SERVER, nextFingerprint: NEXT }

/** Every pause is over at once. */
const hasty: Clock = {
  now: () => 0,
  after: (_, task) => {
    const scheduled = setImmediate(task)
    return () => clearImmediate(scheduled)
  },
}

/** The server's side of mailboxes: a slot is written once, and a reader waits for it. */
function createMailboxServer() {
  const bodyByUrl = new Map<string, Uint8Array>()
  const written = createPulse()
  const http: Http = async ({ method, url, body, signal }) => {
    const key = url.replace(/\?.*$/, '')
    if (method === 'PUT') {
      if (bodyByUrl.has(key)) return { status: 409, body: new Uint8Array(0) }
      if (body === undefined || body.length > 8192) return { status: 413, body: new Uint8Array(0) }
      bodyByUrl.set(key, body.slice())
      written.fire()
      return { status: 201, body: new Uint8Array(0) }
    }
    const stored = bodyByUrl.get(key)
    if (stored !== undefined) return { status: 200, body: stored }
    if (!url.endsWith('?wait_s=5')) await written.next(signal)
    return { status: 404, body: new Uint8Array(0) }
  }
  return { http, bodyByUrl }
}

let account: Account
let keys: DeviceKeys
let request: LinkRequest
let server: ReturnType<typeof createMailboxServer>
let signal: AbortSignal

beforeEach(async () => {
  account = await createAccount()
  keys = await createDeviceKeys(crypto, 'member')
  request = createLinkRequest(crypto, SERVER)
  server = createMailboxServer()
  signal = new AbortController().signal
})

const open = (from: LinkRequest = request): Mailbox =>
  createMailbox({ crypto, http: server.http, clock: hasty, httpUrl: 'http://s', request: from, signal })

const join = (parts: { pin?: Partial<ServerPin>; keys?: DeviceKeys; mailbox?: Mailbox } = {}) =>
  askToJoin({
    mailbox: parts.mailbox ?? open(),
    keys: parts.keys ?? keys,
    name: 'phone',
    platform: 'linux',
    server: { url: 'ws://s', fingerprint: SERVER, ...parts.pin },
    onIntroduced: () => {},
    onInvited: async () => {},
  })

const approve = (parts: Partial<ApproveParts> = {}) =>
  approveRequest({
    crypto,
    mailbox: open(),
    userId: account.state.userId,
    server: { fingerprint: SERVER, nextFingerprint: NEXT },
    position: () => ({ seq: account.state.seq, head: account.state.head }),
    onSilence: () => {},
    confirm: async () => true,
    add: async ({ record, proof }) => {
      const { boxHash } = await sealBoxForNewDevice(crypto, account.state, record, account.epoch.secret)
      const entry = await buildAdd(account.state, authorOf(account.manager), { record, boxHash, proof })
      const applied = applyEntry(crypto, account.state, entry)
      if (!applied.ok) throw new Error(`refused: ${applied.rule}`)
      account = { ...account, state: applied.state }
      return { seq: applied.state.seq, head: applied.state.head }
    },
    ...parts,
  })

const codeOf = async (attempt: Promise<unknown>): Promise<string> => {
  const error = await attempt.then(
    () => undefined,
    (failure: unknown) => failure,
  )
  return error instanceof SetupError ? error.code : String(error)
}

describe('a request', () => {
  test('DEV-3: survives being carried by hand and nothing else is one', () => {
    const text = formatLinkRequest(request)
    expect(text).toMatch(/^valise-link-1\.[A-Za-z0-9_-]{86}$/)
    expect(parseLinkRequest(`  ${text}\n`)).toEqual(request)
    for (const wrong of [
      '',
      text.slice(0, -1),
      `${text}A`,
      text.replace('1.', '2.'),
      text.replace('valise', 'valisa'),
    ]) {
      expect(parseLinkRequest(wrong)).toBeUndefined()
    }
    const pins = [OTHER_SERVER, SERVER].map((fingerprint) => ({ fingerprint }))
    expect(pinOfRequest(request, pins)).toBe(pins[1])
    expect(pinOfRequest(request, pins.slice(0, 1))).toBeUndefined()
  })
})

describe('a linking', () => {
  test('DEV-3: shows who asks, signs the device in, and tells it where to look', async () => {
    const shown: NewDevice[] = []
    const confirm = async (device: NewDevice): Promise<boolean> => {
      expect(account.state.seq).toBe(0)
      shown.push(device)
      return true
    }
    const before = { seq: account.state.seq, head: account.state.head }
    const [invited, approved] = await Promise.all([join(), approve({ confirm })])
    expect(shown).toMatchObject([{ name: 'phone', platform: 'linux' }])
    expect(shown[0]!.deviceFingerprint.replaceAll(' ', '')).toBe(toHex(keys.deviceId))
    expect(approved).toMatchObject({ seq: 1, deviceId: keys.deviceId })
    expect(findDevice(account.state, keys.deviceId)).toBeDefined()
    const after = { seq: 1, head: account.state.head }
    expect(invited).toEqual({ userId: account.state.userId, positions: [before, after], server: PINNED })
  })

  test('DEV-3: the server sees nothing of it, and no slot shares a key with another', async () => {
    await Promise.all([join(), approve()])
    const bodies = [...server.bodyByUrl.values()]
    expect(bodies).toHaveLength(4)
    for (const body of bodies) {
      expect(Buffer.from(body).includes(Buffer.from(account.state.userId))).toBe(false)
      expect(Buffer.from(body).toString('latin1')).not.toContain('phone')
      expect(body.length).toBeLessThan(8192)
    }
  })

  test('DEV-3: a person who declines adds nobody and gives nothing away', async () => {
    const [joined, approved] = await Promise.allSettled([join(), approve({ confirm: async () => false })])
    expect(joined).toMatchObject({ reason: { code: 'link_declined' } })
    expect(approved).toEqual({ status: 'fulfilled', value: undefined })
    expect(server.bodyByUrl.size).toBe(2)
    expect(account.state.seq).toBe(0)
  })

  test('DEV-3: an account that takes no further device says so, and the device that asked is told no', async () => {
    const add = () => Promise.reject(new AccountError('too_many_devices', 'as many as it may have'))
    const [joined, approved] = await Promise.allSettled([join(), approve({ add })])
    expect(joined).toMatchObject({ reason: { code: 'link_declined' } })
    expect(approved).toMatchObject({ reason: { code: 'too_many_devices' } })
  })

  test('DEV-3: two devices that see different server keys do not link', async () => {
    for (const pin of [{ fingerprint: OTHER_SERVER }, { nextFingerprint: OTHER_SERVER }]) {
      server = createMailboxServer()
      const attempts = [join({ pin }), approve({ signal } as Partial<ApproveParts>)]
      expect(await codeOf(attempts[0]!)).toBe('wrong_server_key')
      expect(account.state.seq).toBe(0)
    }
  })

  test('DEV-1: a device that cannot prove its keys is not added', async () => {
    const other = await createDeviceKeys(crypto, 'member')
    const borrowed = { ...keys, signer: other.signer }
    const joining = join({ keys: borrowed }).catch(() => {})
    expect(await codeOf(approve())).toBe('link_failed')
    expect(account.state.seq).toBe(0)
    void joining
  })

  test('DEV-1: a device that asks to be a manager is refused before anybody is asked', async () => {
    const record: DeviceRecord = { ...keys.record, role: 'manager' }
    await open().post(0, encodeIntroduction({ record, name: 'x', platform: 'y' }))
    const confirm = async (): Promise<boolean> => {
      throw new Error('nobody may be asked')
    }
    expect(await codeOf(approve({ confirm }))).toBe('link_failed')
  })

  test('DEV-3: a message that was changed or swapped on its way is noticed', async () => {
    await open().post(0, encodeIntroduction({ record: keys.record, name: 'x', platform: 'y' }))
    const [[url, body]] = [...server.bodyByUrl] as [[string, Uint8Array]]
    for (let at = 0; at < body.length; at += 97) {
      server.bodyByUrl.set(
        url,
        body.map((byte, i) => (i === at ? byte ^ 1 : byte)),
      )
      expect(await codeOf(open().take(0))).toBe('link_failed')
    }
    server.bodyByUrl.set(url.replace(/0$/, '1'), body)
    expect(await codeOf(open().take(1))).toBe('link_failed')
  })

  test('DEV-3: a second joiner finds the slot taken', async () => {
    await open().post(0, encodeIntroduction({ record: keys.record, name: 'x', platform: 'y' }))
    expect(await codeOf(join())).toBe('link_failed')
  })

  test('waiting ends with a deadline or when it is given up, and says which', async () => {
    const abort = new AbortController()
    signal = abort.signal
    const waiting = codeOf(open().take(0))
    abort.abort()
    expect(await waiting).toBe('aborted')
    signal = AbortSignal.timeout(1)
    expect(await codeOf(open().take(0))).toBe('link_timeout')
  })

  test('a server that is away for a while, or has no time, is waited for; one that stays away is told', async () => {
    const failing = [
      () => Promise.reject(new Error('connection refused')),
      async () => ({ status: 503, body: new Uint8Array(0) }),
      async () => ({ status: 429, body: new Uint8Array(0) }),
    ]
    let tries = 0
    let failures = 40
    const http: Http = (sent) => (tries++ < failures ? failing[tries % failing.length]!() : server.http(sent))
    const mailbox = createMailbox({ crypto, http, clock: hasty, httpUrl: 'http://s', request, signal })
    await open().post(0, Uint8Array.of(1, 2, 3))
    expect(await mailbox.take(0)).toEqual(Uint8Array.of(1, 2, 3))
    expect(tries).toBe(41)
    tries = 0
    failures = Number.POSITIVE_INFINITY
    expect(await codeOf(mailbox.take(0))).toBe('server_unreachable')
    expect(tries).toBe(60)
  })

  test('DEV-3: a message whose answer was lost counts as written, another one in its slot does not', async () => {
    let isLost = true
    const http: Http = async (sent) => {
      const response = await server.http(sent)
      if (!isLost) return response
      isLost = false
      throw new Error('connection reset')
    }
    const mailbox = createMailbox({ crypto, http, clock: hasty, httpUrl: 'http://s', request, signal })
    await mailbox.post(0, Uint8Array.of(1))
    expect(await codeOf(mailbox.post(0, Uint8Array.of(1)))).toBe('link_failed')
    await open().post(2, Uint8Array.of(1))
    isLost = true
    expect(await codeOf(mailbox.post(2, Uint8Array.of(2)))).toBe('link_failed')
  })

  test('whoever approves is told once that nothing comes', async () => {
    const told: string[] = []
    const taking = open().take(0, () => told.push('silence'))
    await open().post(2, Uint8Array.of(1))
    await open().post(0, Uint8Array.of(7))
    expect(await taking).toEqual(Uint8Array.of(7))
    await open().take(0, () => told.push('never'))
    expect(told).toEqual(['silence'])
  })
})

test('a name from another device cannot write into a terminal', () => {
  const encoded = encodeIntroduction({ record: keys.record, name: 'a\u001b[2Jb\u202e\n', platform: 'x'.repeat(200) })
  const parsed = parseIntroduction(encoded)!
  expect(parsed.name).toBe('a�[2Jb��')
  expect(parsed.platform).toHaveLength(64)
})

test('messages are strict: nothing more, nothing less', () => {
  const encoded = encodeIntroduction({ record: keys.record, name: 'a', platform: 'b' })
  for (let length = 0; length < encoded.length; length += 7) {
    expect(parseIntroduction(encoded.subarray(0, length))).toBeUndefined()
  }
  expect(parseIntroduction(Uint8Array.of(...encoded, 0))).toBeUndefined()
  for (const parse of [parseInvitation, parseDone]) {
    expect(parse(Uint8Array.of(0))).toEqual({ type: 'declined' })
    for (const wrong of [[], [0, 0], [1], [2]]) expect(parse(Uint8Array.from(wrong))).toBeUndefined()
  }
})
