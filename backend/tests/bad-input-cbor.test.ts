// What is no CBOR of this protocol (MSG-2): a right seal around it does not help. The session ends with 4400, in no time
// and no memory to speak of, whatever lengths and depths the bytes claim.

import { ERRORS, encodeMessage } from '@valise/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { indexes, within } from './bad-input/handshake-steps.ts'
import { answersIn } from './bad-input/server-state.ts'
import { createAccount, type TestDevice } from './support/account.ts'
import { startTestServer, type TestServer } from './support/server.ts'

const badFrame = { code: 4400, reason: ERRORS.bad_frame.text }
const bytesOf = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex.replaceAll(' ', ''), 'hex'))

let server: TestServer
let device: TestDevice

beforeAll(async () => {
  server = await startTestServer({ database: 'postgres' })
  device = (await createAccount(server)).devices[0]!
})
afterAll(() => server?.close())

// {"type": "ping", "id": 5} in pieces.
const TYPE_PING = '64 74797065 64 70696e67'
const ID = '62 6964'

const filled = (head: string, count: number, fill: number): Uint8Array => {
  const start = bytesOf(head)
  const whole = new Uint8Array(start.length + count).fill(fill)
  whole.set(start)
  return whole
}

const payloads: Record<string, Uint8Array> = {
  nothing: new Uint8Array(0),
  'a break and nothing else': bytesOf('ff'),
  'a message cut short': encodeMessage({ type: 'ping', id: 5 }).subarray(0, -1),
  'bytes behind a message': bytesOf(`a2 ${TYPE_PING} ${ID} 05 00`),
  'two messages without an array': bytesOf(`a2 ${TYPE_PING} ${ID} 05 a2 ${TYPE_PING} ${ID} 05`),
  'no messages': bytesOf('80'),
  'more messages than a frame holds': Buffer.concat([
    bytesOf('98 41'),
    ...indexes(65).map(() => encodeMessage({ type: 'ping', id: 5 })),
  ]),
  'a map of indefinite length': bytesOf(`bf ${TYPE_PING} ${ID} 05 ff`),
  'a text of indefinite length': bytesOf(`a2 64 74797065 7f 64 70696e67 ff ${ID} 05`),
  'an array of indefinite length': bytesOf(`9f a2 ${TYPE_PING} ${ID} 05 ff`),
  'a number longer than it must be': bytesOf(`a2 ${TYPE_PING} ${ID} 1805`),
  'a length longer than it must be': bytesOf(`b802 ${TYPE_PING} ${ID} 05`),
  'a key twice': bytesOf(`a3 ${TYPE_PING} ${ID} 05 ${ID} 06`),
  'a key that is a number': bytesOf(`a2 ${TYPE_PING} 01 05`),
  'a tag': bytesOf(`c1 a2 ${TYPE_PING} ${ID} 05`),
  'a big number': bytesOf(`a2 ${TYPE_PING} ${ID} c2 49 010000000000000000`),
  'a number above 2^53': bytesOf(`a2 ${TYPE_PING} ${ID} 1b 0020000000000000`),
  'the highest number': bytesOf(`a2 ${TYPE_PING} ${ID} 1b ffffffffffffffff`),
  'the lowest number': bytesOf(`a2 ${TYPE_PING} ${ID} 3b ffffffffffffffff`),
  undefined: bytesOf(`a2 ${TYPE_PING} ${ID} f7`),
  'not a number': bytesOf(`a2 ${TYPE_PING} ${ID} f9 7e00`),
  infinity: bytesOf(`a2 ${TYPE_PING} ${ID} f9 7c00`),
  'an array of 2^64 - 1': bytesOf('9b ffffffffffffffff'),
  'an array of 2^53 - 1': bytesOf('9b 001fffffffffffff'),
  'an array of 2^32 - 1': bytesOf('9a ffffffff'),
  'a map of 2^53 - 1': bytesOf('bb 001fffffffffffff'),
  'a map of 2^32 - 1': bytesOf('ba ffffffff'),
  'bytes of 2^53 - 1': bytesOf('5b 001fffffffffffff'),
  'bytes of 2^32 - 1': bytesOf('5a ffffffff'),
  'a text of 2^53 - 1': bytesOf('7b 001fffffffffffff'),
  'seven arrays deep': bytesOf('81 81 81 81 81 81 81 00'),
  'seven maps deep': bytesOf(`${'a1 61 61 '.repeat(7)} 00`),
  'a million arrays deep': filled('81', 1_000_000, 0x81),
  'a million maps deep': Buffer.concat(indexes(300_000).map(() => bytesOf('a1 61 61'))),
  'a million tags deep': filled('c1', 1_000_000, 0xc1),
  'a million messages': filled('9a 000f4240', 1_000_000, 0x00),
  'a million empty maps': filled('9a 000f4240', 1_000_000, 0xa0),
}

describe('MSG-2: what is no CBOR of this protocol → 4400', () => {
  test.each(Object.entries(payloads))('MSG-2: %s', async (_name, payload) => {
    const session = await device.connect(server)
    session.sendPayload(payload)
    expect(await within('the close', session.closed)).toEqual(badFrame)
    expect(answersIn(session)).toEqual([])
  })

  test('MSG-2: every byte of a message flipped: an answer, a coded error or the close, and nothing else', async () => {
    const whole = encodeMessage({ type: 'fetch_envelopes', request_id: 9, after_epoch: 0 })
    const seen = new Set<string>()
    for (const at of indexes(whole.length)) {
      const session = await device.connect(server)
      const spoilt = whole.slice()
      spoilt[at] = spoilt[at]! ^ 0x41
      session.sendPayload(spoilt)
      session.send({ type: 'ping', id: 1 })
      const outcome = await Promise.race([
        session.closed.then(({ code }) => String(code)),
        session
          .until('an answer', () => answersIn(session).length > 1)
          .then(() => {
            const [said] = answersIn(session)
            return said?.type === 'error' ? `${said.code} ${said.field}` : (said?.type ?? '')
          }),
      ])
      seen.add(outcome)
      session.drop()
    }
    for (const outcome of seen) expect(outcome).toMatch(/^(4400|envelopes|pong|invalid_message [a-z_]+)$/)
    expect(seen).toContain('4400')
    expect(seen).toContain('invalid_message type')
  })
})

test('MSG-4: a megabyte of events of no length → 4400, before it is built', async () => {
  const session = await device.connect(server)
  // Valid CBOR of a megabyte: as many events as bytes, each of no length.
  session.sendPayload(filled('a2 64 74797065 67 7075626c697368 66 6576656e7473 9a 000f0000', 0x0f0000, 0x40))
  expect((await session.closed).code).toBe(4400)
  expect(answersIn(session)).toEqual([])
})
