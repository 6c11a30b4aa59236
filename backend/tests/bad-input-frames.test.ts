// Frames of an established session that are not the next one of their phase: each ends the session with its code and no
// further word, does nothing, and leaves the device free to come again.

import { DEFAULT_LIMITS, ERRORS, encodeMessage } from '@valise/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type HandSession, openHandSession } from './bad-input/hand-session.ts'
import { flipByte, indexes, within } from './bad-input/handshake-steps.ts'
import { answersIn, untilNoConnections } from './bad-input/server-state.ts'
import { createAccount, type TestDevice } from './support/account.ts'
import type { RawSession } from './support/raw-device.ts'
import { startTestServer, type TestServer } from './support/server.ts'

const badFrame = { code: 4400, reason: ERRORS.bad_frame.text }
const tooLarge = { code: 4413, reason: ERRORS.frame_too_large.text }
const ping = encodeMessage({ type: 'ping', id: 1 })

let server: TestServer
let device: TestDevice
let other: TestDevice

beforeAll(async () => {
  server = await startTestServer({ database: 'postgres' })
  const account = await createAccount(server, { devices: 2 })
  ;[device, other] = account.devices as [TestDevice, TestDevice]
})
afterAll(() => server?.close())

const seal = (session: RawSession, id = 1): Uint8Array => session.channel.seal(encodeMessage({ type: 'ping', id }))

/** The frame of the server's next message. */
function nextServerFrame(session: RawSession): Promise<Uint8Array> {
  return within('a frame', new Promise((resolve) => session.socket.once('message', (data: Buffer) => resolve(data))))
}

describe('SES-1: a frame that is not the next one → 4400', () => {
  const frames: Record<string, (session: RawSession) => void | Promise<void>> = {
    'no bytes': (session) => session.sendFrame(new Uint8Array(0)),
    'one byte': (session) => session.sendFrame(Uint8Array.of(1)),
    'a header alone': (session) => session.sendFrame(Uint8Array.of(1, 0)),
    'less than header and tag': (session) => session.sendFrame(seal(session).subarray(0, 17)),
    'header and tag alone': (session) => session.sendFrame(seal(session).subarray(0, 18)),
    'cut by a byte': (session) => session.sendFrame(seal(session).subarray(0, -1)),
    'begun a byte late': (session) => session.sendFrame(seal(session).subarray(1)),
    'a byte too long': (session) => session.sendFrame(Buffer.concat([seal(session), Buffer.of(0)])),
    'a tag of 4 bytes': (session) => session.sendFrame(seal(session).subarray(0, -12)),
    'a tag of zeros': (session) => session.sendFrame(seal(session).fill(0, -16)),
    'the next phase': (session) => session.sendFrame(seal(session).fill(1, 1, 2)),
    'the phase before': (session) => session.sendFrame(seal(session).fill(255, 1, 2)),
    'another version': (session) => session.sendFrame(seal(session).fill(2, 0, 1)),
    'a message that is not sealed': (session) => session.sendFrame(ping),
    'text instead of bytes': (session) => session.socket.send('{"type":"ping","id":1}'),
    'a frame twice': (session) => {
      const frame = seal(session)
      session.sendFrame(frame)
      session.sendFrame(frame)
    },
    'two frames swapped': (session) => {
      const [first, second] = [seal(session, 1), seal(session, 2)]
      session.sendFrame(second)
      session.sendFrame(first)
    },
    'a frame left out': (session) => {
      seal(session)
      session.sendFrame(seal(session))
    },
    'what the server sent, back to it': async (session) => {
      const echoed = nextServerFrame(session)
      session.sendFrame(seal(session))
      session.sendFrame(await echoed)
    },
    'a frame of another session': async (session) => {
      const foreign = await other.connect(server)
      session.sendFrame(seal(foreign))
      await foreign.close()
    },
  }

  test.each(Object.entries(frames))('SES-1: %s', async (_name, misbehave) => {
    const session = await device.connect(server)
    await misbehave(session)
    expect(await within('the close', session.closed)).toEqual(badFrame)
    // At most the answer to an honest frame before.
    expect(answersIn(session).filter(({ type }) => type !== 'pong')).toEqual([])
    expect(answersIn(session).length).toBeLessThanOrEqual(1)
  })

  test('SES-1: a frame kept from the session before', async () => {
    const session = await device.connect(server)
    const kept = seal(session)
    await session.close()
    const again = await device.connect(server)
    again.sendFrame(kept)
    expect(await within('the close', again.closed)).toEqual(badFrame)
  })

  test('SES-1: every byte of a frame flipped', async () => {
    for (const at of indexes(ping.length + 19)) {
      const session = await device.connect(server)
      session.sendFrame(flipByte(seal(session), at))
      expect(await within('the close', session.closed), `byte ${at}`).toEqual(badFrame)
      expect(answersIn(session)).toEqual([])
    }
  })

  test('SES-1: a spoilt publish stores nothing, nor do the frames behind it; what stood before it counts', async () => {
    const session = await device.connect(server)
    const [first, second, third] = await device.sealMany('notes', 3)
    session.publish([first!.wire])
    await session.until('its receipt', () => session.receipts.length === 1)
    const spoilt = session.channel.seal(encodeMessage({ type: 'publish', events: [second!.wire] }))
    session.sendFrame(flipByte(spoilt, 100))
    session.publish([third!.wire])
    expect(await within('the close', session.closed)).toEqual(badFrame)
    const again = await device.connect(server)
    expect(again.established).toMatchObject({ last_device_seq: 1, head: 1 })
    again.publish([first, second, third].map((event) => event!.wire))
    await again.until('all receipts', () => again.receipts.length === 3)
    expect(again.receipts.map(([deviceSeq, , userSeq, , isDuplicate]) => [deviceSeq, userSeq, isDuplicate])).toEqual([
      [1, 1, true],
      [2, 2, false],
      [3, 3, false],
    ])
    await again.close()
  })
})

describe('SES-2: kinds and rotations out of turn → 4400', () => {
  const share = Buffer.alloc(32, 9)
  const rekey = (keyShare: Uint8Array = share): Uint8Array =>
    Buffer.concat([keyShare, Buffer.alloc(32), Buffer.alloc(4)])
  const cases: Record<string, (session: HandSession) => void | Promise<void>> = {
    'no kind at all': (session) => session.send(session.sealFirst(new Uint8Array(0))),
    'an unknown kind': (session) => session.send(session.sealFirst(Buffer.concat([Buffer.of(6), ping]))),
    'the kind 255': (session) => session.send(session.sealFirst(Buffer.concat([Buffer.of(255), ping]))),
    'rekey_resp, which is the server’s': (session) => session.send(session.direction().seal('rekey_resp', rekey())),
    'rekey_hint, which is the server’s': (session) =>
      session.send(session.direction().seal('rekey_hint', new Uint8Array(0))),
    'rekey_done before any rotation': (session) =>
      session.send(session.direction().seal('rekey_done', new Uint8Array(0))),
    'rekey_init that is cut': (session) =>
      session.send(session.direction().seal('rekey_init', rekey().subarray(0, 67))),
    'rekey_init with a byte more': (session) =>
      session.send(session.direction().seal('rekey_init', Buffer.concat([rekey(), Buffer.of(0)]))),
    'rekey_init with a key share of zeros': (session) =>
      session.send(session.direction().seal('rekey_init', rekey(Buffer.alloc(32)))),
    'a second rekey_init while one is outstanding': (session) => {
      const direction = session.direction()
      session.send(direction.seal('rekey_init', rekey()), direction.seal('rekey_init', rekey()))
    },
    'rekey_done with a payload': (session) => {
      const direction = session.direction()
      session.send(direction.seal('rekey_init', rekey()), direction.seal('rekey_done', Buffer.of(1)))
    },
    'close_notify with a payload': (session) => session.send(session.direction().seal('close_notify', Buffer.of(1))),
    'the new phase before rekey_done': async (session) => {
      session.send(session.channel.startRekey())
      await session.nextRekey()
      session.send(session.channel.seal(ping))
    },
    'the old phase after rekey_done': async (session) => {
      session.send(session.channel.startRekey())
      session.send(...(await session.nextRekey()), session.channel.seal(ping))
      expect((await session.nextAnswer()).type).toBe('pong')
      const old = session.direction()
      for (const _sent of ['rekey_init', 'rekey_done']) old.seal('application', ping)
      session.send(old.seal('application', ping))
    },
  }

  test.each(Object.entries(cases))('SES-2: %s', async (_name, misbehave) => {
    const session = await openHandSession(server, device)
    await misbehave(session)
    expect(await session.end()).toEqual(badFrame)
  })

  test('SES-1: after close_notify nothing more is heard', async () => {
    const session = await openHandSession(server, device)
    const direction = session.direction()
    session.send(direction.seal('close_notify', new Uint8Array(0)), direction.seal('application', ping))
    expect(await session.end()).toEqual({ code: 1000, reason: '' })
  })
})

describe('P5: a frame above max_frame', () => {
  /** A publish message whose frame has this many bytes. */
  const sealOfSize = (session: RawSession, frameBytes: number): Uint8Array => {
    const around = encodeMessage({ type: 'publish', events: [new Uint8Array(100_000)] }).length - 100_000 + 19
    return session.channel.seal(encodeMessage({ type: 'publish', events: [new Uint8Array(frameBytes - around)] }))
  }
  const { max_frame: maxFrame } = DEFAULT_LIMITS

  test('P5: max_frame is opened; one byte more → 4413', async () => {
    const session = await device.connect(server)
    const whole = sealOfSize(session, maxFrame)
    expect(whole.length).toBe(maxFrame)
    session.sendFrame(whole)
    await session.until('the refusal of what it holds', () => session.refusals.length === 1)
    expect(session.refusals[0]).toMatchObject({ code: 'invalid_event', device_seq: 0 })
    session.sendFrame(sealOfSize(session, maxFrame + 1))
    expect(await within('the close', session.closed)).toEqual(tooLarge)
  })

  test('P5: far more is not even gathered', async () => {
    const session = await device.connect(server)
    session.sendFrame(new Uint8Array(2 * maxFrame + 1))
    expect((await within('the close', session.closed)).code).toBe(1009)
  })
})

test('BUS-2: all those sessions left nothing behind', async () => {
  await untilNoConnections(server)
  const session = await device.connect(server, { cursor: 0 })
  await session.until('the replay', () => session.isCaughtUp)
  await session.close()
})
