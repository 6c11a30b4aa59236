// Application messages that do not fit (MSG-1, MSG-2): a coded answer that names the field and never the value, and the
// session goes on; what is no CBOR of this protocol ends it. Every field of every client message is spoilt in turn.

import {
  type ClientMessage,
  DEFAULT_LIMITS,
  ERRORS,
  encodeMessage,
  MAX_ACTIVE_DEVICES,
  MAX_BOX_BYTES,
  MAX_DEVICE_LOG_ENTRY_BYTES,
  type SealedBox,
} from '@valise/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createLog } from '../src/telemetry/log.ts'
import { createKeys, openRegistration } from './bad-input/entries.ts'
import { indexes, within } from './bad-input/handshake-steps.ts'
import { answersIn } from './bad-input/server-state.ts'
import { createAccount, type TestDevice } from './support/account.ts'
import type { RawSession } from './support/raw-device.ts'
import { startTestServer, type TestServer } from './support/server.ts'

/** Stands in every value that is wrong, and must come back nowhere. */
const PLANTED = 'planted-4711'
const plantedBytes = Buffer.from(PLANTED)

const logged: string[] = []
let server: TestServer
let device: TestDevice

beforeAll(async () => {
  const log = createLog({ level: 'trace', stream: { write: (line: string) => void logged.push(line) } })
  server = await startTestServer({ database: 'postgres', log })
  device = (await createAccount(server)).devices[0]!
})
afterAll(() => server?.close())

const box = (changes: object = {}): SealedBox => ({
  device_id: device.deviceId,
  box: new Uint8Array(100),
  ...changes,
})

/** One of each, as it should be. */
const samples = (): Record<ClientMessage['type'], ClientMessage> => ({
  register: { type: 'register', entry: new Uint8Array(100), boxes: [box()] },
  resume: { type: 'resume', cursor: 0, log_epoch: null },
  publish: { type: 'publish', events: [new Uint8Array(100)] },
  ack: { type: 'ack', cursor: 0 },
  append_device_log: {
    type: 'append_device_log',
    request_id: 1,
    entry: new Uint8Array(100),
    boxes: [box()],
    links: [],
  },
  fetch_device_log: { type: 'fetch_device_log', request_id: 1, after_seq: null },
  fetch_envelopes: { type: 'fetch_envelopes', request_id: 1, after_epoch: 0 },
  open_pairing: {
    type: 'open_pairing',
    request_id: 1,
    mailbox_id: new Uint8Array(16),
    seat_key: new Uint8Array(16),
  },
  ping: { type: 'ping', id: 1 },
  pong: { type: 'pong', id: 1 },
})

interface Case {
  readonly name: string
  readonly message: unknown
  readonly field: string
}

/** Anything that CBOR can hold. */
const encodeAnything = (value: unknown): Uint8Array => encodeMessage(value as ClientMessage)

const NULLABLE_BYTES = ['log_epoch']
const NULLABLE_NUMBERS = ['after_seq']

/** Values that cannot stand where `right` stands. */
function wrongValues(field: string, right: unknown): unknown[] {
  const never = [PLANTED, true, { [PLANTED]: PLANTED }]
  if (NULLABLE_BYTES.includes(field)) return [...never, 7, [plantedBytes]]
  if (NULLABLE_NUMBERS.includes(field)) return [...never, -1, 1.5, plantedBytes, [7]]
  if (right instanceof Uint8Array) return [...never, null, 7, [plantedBytes]]
  if (Array.isArray(right)) return [...never, null, 7, plantedBytes]
  return [...never, null, -1, 1.5, plantedBytes, [7]]
}

const MAX_INVALID_MESSAGES = 16

async function expectPong(session: RawSession, id: number): Promise<void> {
  session.send({ type: 'ping', id })
  await session.until('the pong', () => session.messages.some((said) => said.type === 'pong' && said.id === id))
}

/** Says them all, as many in a session as it bears; each gets its answer, and each session still works after. */
async function expectInvalid(cases: readonly Case[]): Promise<void> {
  for (let at = 0; at < cases.length; at += MAX_INVALID_MESSAGES) {
    const chunk = cases.slice(at, at + MAX_INVALID_MESSAGES)
    const session = await device.connect(server)
    for (const { message } of chunk) session.sendPayload(encodeAnything(message))
    await expectPong(session, 4711)
    const answers = answersIn(session).slice(0, -1)
    const named = answers.map((answer, index) => [chunk[index]?.name, answer])
    expect(named).toEqual(chunk.map(({ name, field }) => [name, { type: 'error', code: 'invalid_message', field }]))
    await session.close()
  }
}

describe('MSG-1: a message that does not fit is answered, and the session goes on', () => {
  test('MSG-1: every field of every message: missing, of another kind, out of range', async () => {
    const cases = Object.entries(samples()).flatMap(([type, { type: _type, ...fields }]) =>
      Object.entries<unknown>(fields).flatMap(([field, right]): Case[] => {
        const others = { type, ...Object.fromEntries(Object.entries(fields).filter(([name]) => name !== field)) }
        const spoilt = wrongValues(field, right).map((value) => ({
          name: `${type}.${field} is ${JSON.stringify(value)}`,
          message: { ...others, [field]: value },
          field,
        }))
        return [{ name: `${type} without ${field}`, message: others, field }, ...spoilt]
      }),
    )
    expect(cases.length).toBeGreaterThan(80)
    await expectInvalid(cases)
  })

  test('MSG-1: a field too many, in a message or inside', async () => {
    await expectInvalid([
      ...Object.entries(samples()).map(([type, message]) => ({
        name: type,
        message: { ...message, [PLANTED]: PLANTED },
        field: 'message',
      })),
      {
        name: 'in a box',
        message: { ...samples().register, boxes: [box({ [PLANTED]: PLANTED })] },
        field: 'boxes.0',
      },
    ])
  })

  test('MSG-1: no message, an unknown type, the type of a server', async () => {
    await expectInvalid([
      { name: 'a number', message: 5, field: 'message' },
      { name: 'a text', message: PLANTED, field: 'message' },
      { name: 'bytes', message: plantedBytes, field: 'type' },
      { name: 'null', message: null, field: 'message' },
      { name: 'an array in the array', message: [[{ type: 'ping', id: 1 }]], field: 'message' },
      { name: 'an empty map', message: {}, field: 'type' },
      { name: 'an unknown type', message: { type: PLANTED, id: 1 }, field: 'type' },
      { name: 'a type that is a number', message: { type: 7 }, field: 'type' },
      { name: 'a type that every object has', message: { type: 'constructor' }, field: 'type' },
      { name: 'receipts', message: { type: 'receipts', receipts: [[1, 1, 1, 1, false]] }, field: 'type' },
      { name: 'events', message: { type: 'events', events: [], through: 0 }, field: 'type' },
    ])
  })

  test('MSG-1: lengths and numbers just out of range', async () => {
    const { register, resume, publish, append_device_log: append } = samples()
    const many = (count: number, bytes = 1): Uint8Array[] => indexes(count).map(() => new Uint8Array(bytes))
    const boxes = (count: number): SealedBox[] => indexes(count).map(() => box())
    const { max_batch_events: maxEvents } = DEFAULT_LIMITS
    const cases: [string, object, string][] = [
      ['log_epoch of 15 bytes', { ...resume, log_epoch: new Uint8Array(15) }, 'log_epoch'],
      ['log_epoch of 17 bytes', { ...resume, log_epoch: new Uint8Array(17) }, 'log_epoch'],
      ['log_epoch of no bytes', { ...resume, log_epoch: new Uint8Array(0) }, 'log_epoch'],
      ['no events', { ...publish, events: [] }, 'events'],
      ['an event too many', { ...publish, events: many(maxEvents + 1) }, 'events'],
      ['an empty event', { ...publish, events: [...many(2), new Uint8Array(0)] }, 'events.2'],
      ['a text among events', { ...publish, events: [...many(1), PLANTED] }, 'events.1'],
      ['no entry', { ...append, entry: new Uint8Array(0) }, 'entry'],
      ['a long entry', { ...append, entry: new Uint8Array(MAX_DEVICE_LOG_ENTRY_BYTES + 1) }, 'entry'],
      ['no box', { ...register, boxes: [] }, 'boxes'],
      ['three boxes for two', { ...register, boxes: boxes(3) }, 'boxes'],
      ['a box too many', { ...append, boxes: boxes(MAX_ACTIVE_DEVICES + 1) }, 'boxes'],
      ['a short id', { ...append, boxes: [box(), box({ device_id: new Uint8Array(15) })] }, 'boxes.1.device_id'],
      ['a long box', { ...append, boxes: [box({ box: new Uint8Array(MAX_BOX_BYTES + 1) })] }, 'boxes.0.box'],
      ['an empty link', { ...append, links: [{ prev_epoch: 1, box: new Uint8Array(0) }] }, 'links.0.box'],
      [
        'nine links',
        { ...append, links: Array.from({ length: 9 }, () => ({ prev_epoch: 1, box: new Uint8Array(1) })) },
        'links',
      ],
      ['a request id above u32', { ...samples().fetch_device_log, request_id: 2 ** 32 }, 'request_id'],
      ['an epoch above u32', { ...samples().fetch_envelopes, after_epoch: 2 ** 32 }, 'after_epoch'],
      ['a ping above u32', { type: 'ping', id: 2 ** 32 }, 'id'],
    ]
    await expectInvalid(cases.map(([name, message, field]) => ({ name, message, field })))
  })

  test('MSG-1: of a frame with one bad message nothing is done', async () => {
    const event = await device.seal('notes')
    const session = await device.connect(server)
    session.sendPayload(encodeAnything([{ type: 'publish', events: [event.wire] }, { type: PLANTED }]))
    await expectPong(session, 1)
    expect(answersIn(session)[0]).toEqual({ type: 'error', code: 'invalid_message', field: 'type' })
    session.publish([event.wire])
    await session.until('the receipt', () => session.receipts.length === 1)
    expect(session.receipts[0]).toMatchObject([1, 1, 1, expect.any(Number), false])
    await session.close()
  })

  test('MSG-1: sixteen are borne, the seventeenth → 4440', async () => {
    const session = await device.connect(server)
    const spoilt = encodeAnything({ type: 'ping', id: PLANTED })
    for (const _of of indexes(MAX_INVALID_MESSAGES)) session.sendPayload(spoilt)
    await expectPong(session, 1)
    session.sendPayload(spoilt)
    expect(await within('the close', session.closed)).toEqual({ code: 4440, reason: ERRORS.bad_message.text })
    expect(answersIn(session).length).toBe(MAX_INVALID_MESSAGES + 1)
  })
})

describe('MSG-1: messages that fit, and are out of place', () => {
  test('DEV-1: before the account stands nothing but register is taken, and a bad message is named there too', async () => {
    const session = await openRegistration(server, await createKeys('manager'))
    const { register: _register, ping: _ping, pong: _pong, ...early } = samples()
    for (const message of Object.values(early)) session.send(message)
    session.sendPayload(encodeAnything({ type: 'register', entry: PLANTED, boxes: [] }))
    await expectPong(session, 1)
    const refusals = Object.keys(early).map(() => ({ type: 'error', code: 'not_established' }))
    expect(answersIn(session).slice(0, -1)).toEqual([
      ...refusals,
      { type: 'error', code: 'invalid_message', field: 'entry' },
    ])
    await session.close()
  })

  test('DEV-1: register in a session of a device', async () => {
    const session = await device.connect(server)
    session.send(samples().register)
    await expectPong(session, 1)
    expect(answersIn(session)[0]).toEqual({ type: 'error', code: 'already_registered' })
    await session.close()
  })

  test('P5: more requests at once than a session may have waiting', async () => {
    const session = await device.connect(server)
    const asked = 64
    session.sendPayload(encodeAnything(indexes(asked).map((id) => ({ ...samples().fetch_device_log, request_id: id }))))
    await session.until('all answers', () => answersIn(session).length === asked)
    const refused = session.messages.filter(({ type }) => type === 'error')
    expect(refused.length).toBe(32)
    expect(refused[0]).toEqual({ type: 'error', code: 'rate_limited', request_id: 32, retry_after_ms: 1000 })
    expect(session.messages.filter(({ type }) => type === 'device_log').length).toBe(32)
    await session.close()
  })
})

test('P7: what was wrong stands in no log and no metric', async () => {
  expect(logged.length).toBeGreaterThan(0)
  const said = `${logged.join('')}${await server.app.metrics.render()}`
  for (const form of ['utf8', 'hex', 'base64', 'base64url'] as const) {
    expect(said.includes(plantedBytes.toString(form)), form).toBe(false)
  }
})
