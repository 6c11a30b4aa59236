// How a pairing begins, is found again and is given up for another: what an offer may say, whose pairing it is, and what
// the other device hears of it.

import { toBase64Url } from '@valise/protocol'
import { beforeEach, describe, expect, test } from 'vitest'
import { AccountError } from '../src/account/account-error.ts'
import { PAIRING_LIFETIME_MS } from '../src/pairing/ceremony.ts'
import {
  createCodeDigits,
  formatCodeOffer,
  formatQrOffer,
  parseOffer,
  shortFingerprintOf,
} from '../src/pairing/offer.ts'
import { encodePairingRecord, parsePairingRecord } from '../src/pairing/record.ts'
import { createPairingScene, type PairingDevice, type PairingScene, SERVER } from './support/pairing-scene.ts'
import { answerOf } from './support/pairing-server.ts'
import { until } from './support/until.ts'

let scene: PairingScene
beforeEach(async () => {
  scene = await createPairingScene()
})

const parseDigits = (code: string): string => {
  const offer = parseOffer(code)
  if (offer?.form !== 'code') throw new Error(`no code: ${code}`)
  return offer.digits
}
const recordOf = ({ keeper }: PairingDevice) => parsePairingRecord(keeper.stored!)!
/** Waits at this step, as often as it comes to it, and is then interrupted. */
async function haltAt(device: PairingDevice, step: string, options: Parameters<PairingDevice['pair']>[0] = {}) {
  const controller = new AbortController()
  device.onStep = (type) => type === step && controller.abort()
  const end = await device.pair({ ...options, signal: controller.signal })
  device.onStep = () => {}
  expect(end).toMatch(/^aborted: /)
}

describe('an offer', () => {
  const mailboxId = new Uint8Array(16).fill(1)
  const secret = new Uint8Array(32).fill(2)
  const shortFingerprint = new Uint8Array(16).fill(3)
  const parts = [mailboxId, secret, shortFingerprint].map(toBase64Url)
  const url = `https://host.test/p#1.${parts.join('.')}.e`

  test('PAIR-2: a QR says where, and no server is sent what stands after the #', () => {
    const offer = { serverUrl: 'wss://host.test', mailboxId, secret, shortFingerprint, part: 'existing' as const }
    expect(formatQrOffer(offer)).toBe(url)
    expect(parseOffer(`  ${url}\n`)).toEqual({ form: 'qr', ...offer })
    const fingerprint = Uint8Array.from({ length: 32 }, (_, i) => i)
    expect(shortFingerprintOf(fingerprint)).toEqual(fingerprint.subarray(0, 16))
    const below = formatQrOffer({ ...offer, serverUrl: 'ws://host.test:80/valise', part: 'new' })
    expect(below).toBe(`http://host.test/valise/p#1.${parts.join('.')}.n`)
    expect(parseOffer(below)).toMatchObject({ serverUrl: 'ws://host.test/valise', part: 'new' })
  })

  test.each([
    ['another version', url.replace('#1.', '#2.')],
    ['a field more', `${url}.x`],
    ['a part that is none', url.replace(/e$/, 'x')],
    ['a mailbox of another length', url.replace(parts[0]!, toBase64Url(mailboxId.subarray(1)))],
    ['a secret of another length', url.replace(parts[1]!, toBase64Url(secret.subarray(1)))],
    ['a fingerprint of another length', url.replace(parts[2]!, toBase64Url(shortFingerprint.subarray(1)))],
    ['another path', url.replace('/p#', '/q#')],
    ['a query', url.replace('/p#', '/p?x#')],
    ['a name before the host', url.replace('host.', 'me@host.')],
    ['another scheme', url.replace('https', 'ftp')],
    ['a number that begins with 0', '012-730-958-305-118'],
    ['a digit too few', '412-730-958-305-11'],
    ['a digit too many', '412-730-958-305-1180'],
    ['a letter for a digit', '412-730-958-3O5-118'],
    ['nothing', ''],
  ])('PAIR-2: %s makes it none', async (_name, text) => {
    expect(parseOffer(text)).toBeUndefined()
    expect(await scene.fresh.pair({ offer: text })).toMatch(/^bad_offer: That is no pairing code/)
    expect(scene.server.requests).toEqual([])
  })

  test('PAIR-2: a code has six digits, each as likely as any other', () => {
    const code = { form: 'code', nameplate: 412_730_958, digits: '005118' } as const
    expect(formatCodeOffer(code)).toBe('412-730-958-005-118')
    for (const typed of ['412-730-958-005-118', ' 412 730 958 005 118 ', '412730958005118', '412730958-005118']) {
      expect(parseOffer(typed)).toEqual(code)
    }
    const draws = [0xff_ff_ff_ff, 4_294_000_000, 3_999_999_999, 7]
    const random = {
      randomBytes: () => {
        const bytes = new Uint8Array(4)
        new DataView(bytes.buffer).setUint32(0, draws.shift()!)
        return bytes
      },
    }
    // Above the last whole million it is drawn again.
    expect(createCodeDigits(random)).toBe('999999')
    expect(createCodeDigits(random)).toBe('000007')
    expect(draws).toEqual([])
  })

  test('PAIR-2: shown by the same kind of device, or for another server key, it is refused before anything is asked', async () => {
    await haltAt(scene.fresh, 'offered')
    const { url: ofNew } = scene.fresh.shown!
    const count = scene.server.requests.length
    const other = await createPairingScene()
    expect(await other.fresh.pair({ offer: ofNew })).toMatch(/^bad_offer: .* no account either/)
    const elsewhere = { ...SERVER, fingerprint: new Uint8Array(32).fill(6) }
    const half = { ...SERVER, fingerprint: Uint8Array.of(...SERVER.fingerprint.subarray(0, 15), ...Array(17).fill(6)) }
    for (const server of [elsewhere, half]) {
      expect(await scene.existing.pair({ offer: ofNew, server })).toMatch(/^wrong_server_key: /)
    }
    expect(scene.server.requests).toHaveLength(count)
    await haltAt(scene.existing, 'offered')
    expect(await (await createPairingScene()).existing.pair({ offer: scene.existing.shown!.url })).toMatch(
      /^bad_offer: .* an account already/,
    )
  })

  test('PAIR-2: a server that leads from a QR to another mailbox is refused', async () => {
    await haltAt(scene.existing, 'offered')
    const { url: offer } = scene.existing.shown!
    scene.server.intercept = ({ method }) =>
      method === 'POST' ? answerOf(200, { mailbox_id: 'ab'.repeat(16), lifetime_ms: 1000 }) : undefined
    expect(await scene.fresh.pair({ offer })).toMatch(/^pairing_refused: The server led to another mailbox/)
  })
})

describe('a pairing under way', () => {
  test('PAIR-6: ends when its ten minutes are over, or when the server says that its time is', async () => {
    const startMs = scene.clock.now()
    await haltAt(scene.existing, 'offered')
    expect(recordOf(scene.existing).endsAtMs).toBe(startMs + PAIRING_LIFETIME_MS)
    expect(PAIRING_LIFETIME_MS).toBe(10 * 60_000)
    const { code: offer } = scene.existing.shown!
    const mailbox_id = scene.server.mailbox().id
    scene.server.intercept = ({ method, authorization }) => {
      if (method !== 'POST') return undefined
      scene.server.mailbox().joiner = authorization
      return answerOf(200, { mailbox_id, lifetime_ms: 7000 })
    }
    await haltAt(scene.fresh, 'opened', { offer })
    expect(recordOf(scene.fresh).endsAtMs).toBe(startMs + 7000)
    scene.server.intercept = ({ method }) =>
      method === 'PUT' ? answerOf(201, { nameplate: 900_000_000, lifetime_ms: 5000 }) : undefined
    let endsAtMs: number | undefined
    scene.existing.onStep = () => {
      endsAtMs ??= recordOf(scene.existing).endsAtMs
    }
    await scene.existing.pair({ isFresh: true })
    expect(endsAtMs).toBe(startMs + 5000)
  })

  test('PAIR-6: what is stored and is no pairing is not gone on with', async () => {
    await haltAt(scene.existing, 'offered')
    const whole = recordOf(scene.existing)
    const sent = Array.from({ length: 5 }, () => Uint8Array.of(1))
    if (whole.stage !== 'running') throw new Error(whole.stage)
    expect(parsePairingRecord(encodePairingRecord(whole))).toEqual(whole)
    for (const wrong of [
      { ...whole, version: 2 as never },
      { ...whole, seatKey: new Uint8Array(15) },
      { ...whole, state: { ...whole.state, sent } },
      { ...whole, state: { ...whole.state, more: 1 } },
    ]) {
      expect(parsePairingRecord(encodePairingRecord(wrong))).toBeUndefined()
    }
    scene.existing.keeper.stored = Uint8Array.of(1, 2, 3)
    const again = scene.existing.pair()
    await until(() => scene.server.mailboxes.size === 2, 'another mailbox')
    expect(scene.existing.screen).not.toContain('resumed')
    scene.clock.advance(300_000)
    await again
  })

  test('PAIR-5: what was shown is not kept once the other has joined', async () => {
    const ended = scene.existing.pair()
    await until(() => scene.existing.shown !== undefined, 'the offer')
    const { code } = scene.existing.shown!
    await haltAt(scene.fresh, 'opened', { offer: code })
    const joining = scene.fresh.pair()
    const stored: Uint8Array[] = []
    scene.existing.onStep = () => stored.push(scene.existing.keeper.stored!)
    expect([await ended, await joining]).toEqual(['added', 'admitted'])
    expect(scene.fresh.screen).toContain('resumed')
    expect(stored).toHaveLength(5)
    for (const record of stored) expect(Buffer.from(record).includes(parseDigits(code))).toBe(false)
  })

  test.each([
    ['another code', { offer: '900-000-000-123-456' }],
    ['another server', { server: { ...SERVER, fingerprint: new Uint8Array(32).fill(9) } }],
    ['the wish to begin anew', { isFresh: true }],
  ])('PAIR-8: with %s another begins, and the one before is ended', async (_name, options) => {
    await haltAt(scene.existing, 'offered')
    const [first] = scene.server.mailboxes.values()
    const ended = scene.existing.pair(options)
    await until(() => first!.ending !== undefined, 'the end')
    expect(first!.ending).toBe('ended')
    expect(scene.existing.screen).not.toContain('resumed')
    scene.clock.advance(300_000)
    expect(await ended).toMatch(/^pairing_(failed|refused): /)
  })

  test('PAIR-8: the same code, with or without its spaces, goes on with what it began', async () => {
    await haltAt(scene.existing, 'offered')
    const { code } = scene.existing.shown!
    await haltAt(scene.fresh, 'opened', { offer: code })
    await haltAt(scene.fresh, 'opened', { offer: ` ${code.replaceAll('-', ' ')} ` })
    expect(scene.fresh.screen).toEqual(['opened', 'resumed', 'opened'])
    expect(scene.server.mailbox().ending).toBeUndefined()
  })

  test('PAIR-8: a device that became one of an account lets others in, and does not go on as a new one', async () => {
    await haltAt(scene.fresh, 'offered')
    scene.existing.keeper.stored = scene.fresh.keeper.stored
    const ended = scene.existing.pair()
    await until(() => scene.server.mailboxes.size === 2, 'another mailbox')
    expect(scene.existing.screen).not.toContain('resumed')
    scene.clock.advance(300_000)
    await ended
  })

  test('PAIR-7: given up while a joiner has not confirmed, it counts as a failed confirmation', async () => {
    const ended = haltAt(scene.existing, 'answered')
    await until(() => scene.existing.shown !== undefined, 'the offer')
    await haltAt(scene.fresh, 'opened', { offer: scene.existing.shown!.code })
    const joined = scene.fresh.pair()
    await ended
    const again = haltAt(scene.existing, 'offered', { isFresh: true })
    expect(await joined).toMatch(/^pairing_failed: The other device ended this pairing because it failed/)
    await again
    expect([...scene.server.mailboxes.values()].map(({ ending }) => ending)).toEqual(['failed', undefined])
  })

  test('PAIR-8: let in while it was away, the new device still reads that it was', async () => {
    const ended = scene.existing.pair()
    await until(() => scene.existing.shown !== undefined, 'the offer')
    await haltAt(scene.fresh, 'awaiting_done', { offer: scene.existing.shown!.code })
    // It has said who it is before it is interrupted, as it does when it goes on.
    const joining = new AbortController()
    scene.fresh.http = async (request) => {
      const answer = await scene.server.http(request)
      if (request.method === 'PUT' && request.url.endsWith('/4')) joining.abort()
      return answer
    }
    await scene.fresh.pair({ signal: joining.signal })
    expect(await ended).toBe('added')
    scene.fresh.http = scene.server.http
    expect(await scene.fresh.pair()).toBe('admitted')
  })

  test('PAIR-8: let in, and its first session fails: the next call finishes, and only then is nothing kept', async () => {
    const ended = scene.existing.pair()
    await until(() => scene.existing.shown !== undefined, 'the offer')
    const finish = async () => {
      throw new Error('the server is away')
    }
    await expect(scene.fresh.pair({ offer: scene.existing.shown!.code, finish })).rejects.toThrow('away')
    expect(await ended).toBe('added')
    expect(scene.fresh.keeper.stored).toBeDefined()
    expect(await scene.fresh.pair()).toBe('admitted')
    expect(scene.fresh.outcomes).toMatchObject([{ type: 'admitted', seq: 1 }])
    expect(scene.fresh.keeper.stored).toBeUndefined()
  })

  test('PAIR-5: interrupted at the moment at which it fails, it says that it has failed', async () => {
    await haltAt(scene.existing, 'offered')
    const { code } = scene.existing.shown!
    const joined = scene.fresh.pair({
      offer: code.replace(/\d{3}-\d{3}$/, parseDigits(code) === '000000' ? '000-001' : '000-000'),
    })
    const controller = new AbortController()
    scene.existing.onStep = (type) => type === 'ended' && controller.abort()
    const ended = scene.existing.pair({ signal: controller.signal })
    expect(await joined).toMatch(/^pairing_failed: /)
    expect(await ended).toMatch(/^pairing_failed: /)
    expect(scene.existing.keeper.stored).toBeUndefined()
  })

  test('PAIR-5: an account that takes no further device: both are told, and nothing is gone on with', async () => {
    scene.add = () => Promise.reject(new AccountError('too_many_devices', 'as many devices as it may have'))
    const told = expect(scene.existing.pair()).rejects.toThrow('as many devices as it may have')
    await until(() => scene.existing.shown !== undefined, 'the offer')
    const joined = await scene.fresh.pair({ offer: scene.existing.shown!.code })
    expect(joined).toMatch(/^pairing_failed: The pairing was ended from the other side/)
    await told
    expect(scene.server.mailbox().ending).toBe('ended')
    for (const { keeper } of [scene.existing, scene.fresh]) expect(keeper.stored).toBeUndefined()
  })

  test('PAIR-3: a slot that somebody else has written ends it', async () => {
    const ended = scene.existing.pair()
    await until(() => scene.existing.shown !== undefined, 'the offer')
    scene.server.mailbox().slots.set(0, Uint8Array.of(1))
    expect(await scene.fresh.pair({ offer: scene.existing.shown!.code })).toMatch(
      /^pairing_failed: A message was changed, swapped or repeated/,
    )
    expect(await ended).toMatch(/^pairing_failed: /)
  })
})
