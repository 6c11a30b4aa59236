// SES-1 against a real server: whatever is changed on the way, no session comes of it, and a stranger learns nothing,
// neither from the words nor from the way to them.

import { createSessionChannel, ERRORS, parseSessionEstablishedFrame } from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { createHandClient, type Tampering } from '../../protocol/tests/support/hand-client.ts'
import {
  answerOf,
  claimOf,
  endOf,
  fieldBytes,
  flipByte,
  flipInField,
  forEachOf,
  indexes,
  isClose,
  proveHandshake,
  startHandshake,
  within,
} from './bad-input/handshake-steps.ts'
import { createAccount, type TestDevice } from './support/account.ts'
import { dial } from './support/raw-device.ts'
import { startTestServer, type TestServer } from './support/server.ts'

const failed = { code: 4401, reason: ERRORS.handshake_failed.text }
const unsupported = { code: 4402, reason: ERRORS.version_unsupported.text }

/** CH with one suite and no ML-KEM key. */
const HELLO_BYTES = 1 + 1 + 2 + 32 + 32 + 32 + 4

const SIGNATURE_BYTES = 64

let server: TestServer
let device: TestDevice

beforeAll(async () => {
  server = await startTestServer({ database: 'postgres' })
  const account = await createAccount(server)
  device = account.devices[0]!
})
afterAll(() => server?.close())

const sessionsBegun = (): Promise<number> => server.app.metrics.read('valise_handshakes_total', { result: 'ok' })

/** No session may come of what `work` does. */
async function expectNoSession(work: () => Promise<void>): Promise<void> {
  const before = await sessionsBegun()
  await work()
  expect(await sessionsBegun()).toBe(before)
}

async function expectSession(): Promise<void> {
  const session = await device.connect(server)
  await session.close()
}

describe('SES-1: every byte of every handshake message', () => {
  test('SES-1: client_hello: the server closes, or the client refuses its answer', async () => {
    let answered = 0
    await expectNoSession(() =>
      forEachOf(indexes(HELLO_BYTES), async (at) => {
        const { raw, client } = await startHandshake(server, device)
        expect(fieldBytes(client.hello, 'body').length).toBe(HELLO_BYTES)
        raw.socket.send(flipInField(client.hello, 'body', at))
        const answer = await answerOf(raw)
        if (isClose(answer)) return expect(answer, `byte ${at}`).toEqual(at === 0 ? unsupported : failed)
        answered++
        expect(await client.finish(answer), `byte ${at}`).toEqual({ ok: false, reason: 'handshake_failed' })
        raw.socket.send(JSON.stringify({ type: 'client_auth', auth: Buffer.alloc(257, at).toString('base64url') }))
        expect(await endOf(raw), `byte ${at}`).toEqual(failed)
      }),
    )
    // Nonce, key share and fingerprint carry any value; the transcript tells.
    expect(answered).toBe(96)
    await expectSession()
  })

  test('SES-1: the text around client_hello: the server closes', async () => {
    const { raw, client } = await startHandshake(server, device)
    raw.socket.terminate()
    const body: string = JSON.parse(client.hello).body
    const start = client.hello.indexOf(body)
    const around = indexes(client.hello.length).filter((at) => at < start || at >= start + body.length)
    await expectNoSession(() =>
      forEachOf(around, async (at) => {
        const { raw, client } = await startHandshake(server, device)
        raw.socket.send(Buffer.from(flipByte(Buffer.from(client.hello), at)), { binary: false })
        // A byte that is no UTF-8 ends at WebSocket level.
        expect([failed.code, 1007], `character ${at}`).toContain((await endOf(raw)).code)
      }),
    )
  })

  test('SES-1: server_hello: the client goes no further', async () => {
    const { raw, client } = await startHandshake(server, device)
    raw.socket.send(client.hello)
    const sample = await within('server_hello', raw.nextText())
    raw.socket.terminate()
    const places = (['body', 'auth'] as const).flatMap((field) =>
      indexes(fieldBytes(sample, field).length).map((at) => ({ field, at })),
    )
    expect(places.length).toBeGreaterThan(240)
    await expectNoSession(() =>
      forEachOf(places, async ({ field, at }) => {
        const { raw, client } = await startHandshake(server, device)
        raw.socket.send(client.hello)
        const answer = await within('server_hello', raw.nextText())
        const finished = await client.finish(flipInField(answer, field, at))
        expect(finished, `${field} ${at}`).toEqual({ ok: false, reason: 'handshake_failed' })
        raw.socket.terminate()
      }),
    )
  })

  test('SES-1: client_auth: the server closes', async () => {
    const { raw, finished } = await proveHandshake(server, device)
    raw.socket.terminate()
    await expectNoSession(() =>
      forEachOf(indexes(fieldBytes(finished.authText, 'auth').length), async (at) => {
        const { raw, finished } = await proveHandshake(server, device)
        raw.socket.send(flipInField(finished.authText, 'auth', at))
        expect(await endOf(raw), `byte ${at}`).toEqual(failed)
      }),
    )
    await expectSession()
  })

  test('SES-1: what client_auth seals, under a right seal: claim, signature, Finished MAC', async () => {
    const { claim, key } = claimOf(device)
    const shakeHands = async (tampering: Tampering) => {
      const raw = await dial(server.url)
      const client = createHandClient()
      raw.socket.send(client.hello)
      client.readServer(await within('server_hello', raw.nextText()))
      raw.socket.send(client.writeAuth(claim, key, tampering))
      return { raw, answer: await answerOf(raw) }
    }
    let length = 0
    const honest = await shakeHands({
      plaintext: (plaintext) => {
        length = plaintext.length
        return plaintext
      },
    })
    expect(isClose(honest.answer)).toBe(false)
    honest.raw.socket.terminate()
    await expectNoSession(() =>
      forEachOf(indexes(length), async (at) => {
        const { answer } = await shakeHands({ plaintext: (plaintext) => Buffer.from(flipByte(plaintext, at)) })
        expect(answer, `byte ${at}`).toEqual(failed)
      }),
    )
    // A Finished MAC that is right for a wrong signature proves nothing either.
    await expectNoSession(() =>
      forEachOf(indexes(SIGNATURE_BYTES), async (at) => {
        const { answer } = await shakeHands({ signature: (signature) => Buffer.from(flipByte(signature, at)) })
        expect(answer, `byte ${at} of the signature`).toEqual(failed)
      }),
    )
  })

  test('SES-1: session_established: the client does not open it', async () => {
    const { raw, finished } = await proveHandshake(server, device)
    raw.socket.send(finished.authText)
    const text = await within('session_established', raw.nextText())
    raw.socket.terminate()
    const frame = parseSessionEstablishedFrame(text)!
    // A failed channel stays failed, so each byte gets a new one under the same secrets.
    const receive = (bytes: Uint8Array) =>
      createSessionChannel({
        crypto: nodeCrypto,
        role: 'client',
        secrets: structuredClone(finished.secrets),
      }).receive(bytes)
    expect(receive(frame).type).toBe('application')
    for (const at of indexes(frame.length)) {
      expect(receive(flipByte(frame, at)), `byte ${at}`).toEqual({ type: 'failed' })
    }
  })
})
