// A client whose server changes its key: it follows what both keys signed, and stops for everything else.

import { toBase64Url } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { beforeEach, describe, expect, test } from 'vitest'
import { createAccount } from '../src/account/create-account.ts'
import { formatFingerprint } from '../src/account/fingerprint.ts'
import { contactServer } from '../src/account/first-contact.ts'
import { pinsOf } from '../src/account/key-chain.ts'
import { createPinKeeper, openPinKeeper, type ServerKeyMove } from '../src/account/pin-keeper.ts'
import { recoverAccount } from '../src/account/recover-account.ts'
import { ClientStoppedError } from '../src/alarm.ts'
import type { Client } from '../src/client.ts'
import type { HttpResponse } from '../src/http.ts'
import { createRecoveryKeys, readRecoveryPhrase } from '../src/sealing/recovery.ts'
import { createMemoryStore } from '../src/store/memory-store.ts'
import { keysPage } from './support/server-keys.ts'
import { createFirstDevice, parts, sealer, type TestDevice } from './support/test-device.ts'
import { createTestServer, type TestServer } from './support/test-server.ts'
import { until } from './support/until.ts'

let server: TestServer
let device: TestDevice

beforeEach(async () => {
  server = createTestServer()
  device = await createFirstDevice(server)
  device.client.start()
  await device.client.whenLive()
})

const fingerprints = (...indexes: number[]) => indexes.map((index) => server.keys.fingerprintOf(index))

const come = async (): Promise<void> => {
  server.cut()
  await until(() => device.client.state().type !== 'live', 'the end of the session')
  device.clock.advance(1000)
}

/** Comes back, now or later. */
const live = (): Promise<void> =>
  until(() => {
    device.clock.advance(1)
    return device.client.state().type === 'live'
  }, 'the return')

/** What the client stops with when it comes back. */
const stopOf = async (client: Client = device.client): Promise<string> => {
  await until(() => client.state().type === 'stopped', 'the stop')
  const state = client.state()
  const cause = state.type === 'stopped' ? state.cause : undefined
  return cause?.type === 'alarm' ? cause.alarm.code : cause?.type === 'refused' ? cause.code : String(cause?.type)
}

const rotateTimes = async (times: number): Promise<void> => {
  for (let time = 0; time < times; time++) await server.keys.rotate()
}

describe('a client', () => {
  test('KEY-1: learns the next key from its first handshake and keeps it', async () => {
    const [fingerprint, nextFingerprint] = fingerprints(0, 1)
    expect(device.identity.server).toMatchObject({ fingerprint, nextFingerprint })
    expect(device.client.serverPin()).toMatchObject({ fingerprint, nextFingerprint })
  })

  test('KEY-2: follows one change, three changes and more than a page of them', async () => {
    for (const times of [1, 3, 70]) {
      await rotateTimes(times)
      await come()
      await live()
      expect(device.client.serverPin()).toMatchObject({
        fingerprint: device.client.serverPin().fingerprint,
        nextFingerprint: server.keys.nextFingerprint,
      })
    }
    expect(device.client.serverPin().fingerprint).toEqual(server.keys.fingerprintOf(74))
    expect(device.client.serverPin().retired).toHaveLength(32)
    // Nothing is asked for as long as the pinned key is proved.
    const before = server.keys.requests
    await come()
    await live()
    expect(server.keys.requests).toBe(before)
  })

  test('KEY-4: tells of it once, with both fingerprints, also to a listener that comes after a restart', async () => {
    await rotateTimes(2)
    await come()
    await live()
    await device.restart()
    const [from, to] = fingerprints(0, 2)
    const moves: ServerKeyMove[] = []
    device.client.onServerKeyMoved((move) => moves.push(move))
    expect(moves).toEqual([{ from, to }])
    const untold = async (): Promise<number> => {
      const kept = await openPinKeeper({ ...parts(server, device.store), server: device.identity.server })
      const again: ServerKeyMove[] = []
      kept.onMoved((move) => again.push(move))
      return again.length
    }
    await expect.poll(untold).toBe(0)
    await device.restart()
    device.client.onServerKeyMoved((move) => moves.push(move))
    expect(moves).toHaveLength(1)
    device.client.start()
    await live()
    expect(server.keys.requests).toBe(2)
  })

  test('KEY-5: waits for a node that proves a key which the server has replaced, and does not go back', async () => {
    await rotateTimes(1)
    await come()
    await live()
    const { signer, nextFingerprint } = server.keys
    server.keys.signer = server.keys.signerOf(0)
    server.keys.nextFingerprint = server.keys.fingerprintOf(1)
    await come()
    await until(() => {
      const state = device.client.state()
      return state.type === 'offline' && state.text.includes('has replaced')
    }, 'the wait')
    Object.assign(server.keys, { signer, nextFingerprint })
    device.clock.advance(60_000)
    await live()
    expect(device.client.serverPin().fingerprint).toEqual(server.keys.fingerprintOf(1))
  })

  test('KEY-5: waits for such a node, too, when it met the server after the change', async () => {
    const fresh = createTestServer()
    await fresh.keys.rotate()
    const later = await createFirstDevice(fresh)
    fresh.keys.signer = fresh.keys.signerOf(0)
    later.client.start()
    await until(() => {
      const state = later.client.state()
      return state.type === 'offline' && state.text.includes('has replaced')
    }, 'the wait')
    // A key whose change the pinned key has not signed is none of its predecessors.
    fresh.keys.answer = async () => keysPage([await fresh.keys.change(0, 7)])
    await later.restart()
    later.client.start()
    expect(await stopOf(later.client)).toMatch(/server_next_key_changed|server_keys_invalid|wrong_server_key/)
  })

  test('KEY-2: comes back later when the list of changes cannot be read', async () => {
    await rotateTimes(1)
    for (const status of [429, 503]) {
      server.keys.answer = () => ({ status, body: new Uint8Array() })
      await come()
      await until(() => {
        const state = device.client.state()
        return state.type === 'offline' && state.text.includes('cannot be read')
      }, 'the wait')
      server.keys.answer = undefined
      device.clock.advance(60_000)
      await live()
      await server.keys.rotate()
    }
  })

  test('KEY-3: stops when no signed change leads to the key that is proved', async () => {
    server.keys.signer = server.keys.signerOf(9)
    await come()
    expect(await stopOf()).toBe('wrong_server_key')
  })

  test('KEY-3: stops when a server without such a list has another key', async () => {
    server.keys.signer = server.keys.signerOf(9)
    server.keys.answer = () => ({ status: 404, body: new Uint8Array() })
    await come()
    expect(await stopOf()).toBe('wrong_server_key')
  })

  test('KEY-3: stops when the pinned key names another next key', async () => {
    server.keys.nextFingerprint = server.keys.fingerprintOf(5)
    await come()
    expect(await stopOf()).toBe('server_next_key_changed')
  })

  test('KEY-3: stops for a thief who has the key and not the next one', async () => {
    // He signs with the stolen key, and with one of his own in place of the next.
    server.keys.changes.push(await server.keys.change(0, 8))
    server.keys.signer = server.keys.signerOf(8)
    server.keys.nextFingerprint = server.keys.fingerprintOf(9)
    await come()
    expect(await stopOf()).toBe('server_next_key_changed')
    expect(device.client.serverPin().fingerprint).toEqual(server.keys.fingerprintOf(0))
  })

  test('KEY-3: stops when the server shows two successors of one key', async () => {
    const both = [await server.keys.change(0), await server.keys.change(0, 1, 5)]
    server.keys.answer = () => keysPage(both)
    server.keys.signer = server.keys.signerOf(1)
    await come()
    expect(await stopOf()).toBe('server_key_forked')
  })

  test('KEY-3: stops when another successor of a key comes that it has followed', async () => {
    await rotateTimes(1)
    await come()
    await live()
    // The same key, and another next one than the signed change names.
    server.keys.nextFingerprint = server.keys.fingerprintOf(5)
    await come()
    expect(await stopOf()).toBe('server_next_key_changed')
  })

  const nonsense: Record<string, (after: Uint8Array) => HttpResponse | Promise<HttpResponse>> = {
    'no JSON': () => ({ status: 200, body: new TextEncoder().encode('<html>') }),
    'another shape': () => ({ status: 200, body: new TextEncoder().encode('{"changes":7}') }),
    'another status': () => ({ status: 302, body: new Uint8Array() }),
    'no base64url': () => ({ status: 200, body: new TextEncoder().encode('{"changes":["!"]}') }),
    'bytes that are no change': () => keysPage([new Uint8Array(225)]),
    'more than a page': async () => keysPage(Array<Uint8Array>(65).fill(await server.keys.change(0))),
    'the same change again and again': async () => keysPage([await server.keys.change(0)]),
  }
  for (const [name, answer] of Object.entries(nonsense)) {
    test(`KEY-2: stops for a list of changes that is malformed: ${name}`, async () => {
      server.keys.signer = server.keys.signerOf(9)
      server.keys.answer = answer
      await come()
      expect(await stopOf()).toBe('server_keys_invalid')
    })
  }

  test('KEY-2: stops for a chain without an end, in a bounded number of requests', async () => {
    let at = 0
    server.keys.signer = server.keys.signerOf(9999)
    server.keys.answer = async () => keysPage([await server.keys.change(at++)])
    await come()
    expect(await stopOf()).toBe('server_keys_invalid')
    expect(server.keys.requests).toBe(32)
  })

  test('KEY-3: trusts another key after its user has compared it, and learns the next one anew', async () => {
    server.keys.signer = server.keys.signerOf(9)
    server.keys.nextFingerprint = server.keys.fingerprintOf(10)
    await come()
    expect(await stopOf()).toBe('wrong_server_key')
    await device.client.trustServer({ fingerprint: server.keys.fingerprintOf(9) })
    await device.restart()
    device.client.start()
    await live()
    const [fingerprint, nextFingerprint] = fingerprints(9, 10)
    expect(device.client.serverPin()).toMatchObject({ fingerprint, nextFingerprint })
  })

  test('KEY-2: without the next key it follows nothing, since whoever has the pinned one could lead it anywhere', async () => {
    await rotateTimes(1)
    const pin = { url: 'ws://s', fingerprint: server.keys.fingerprintOf(0) }
    const keeper = createPinKeeper({ crypto, transport: server.transport, server: pin })
    expect(await keeper.judge(server.keys.signer.publicKey)).toEqual({ type: 'foreign' })
    expect(keeper.current.fingerprint).toEqual(server.keys.fingerprintOf(0))
  })
})

describe('a first contact', () => {
  const sheetOf = (index: number): string => {
    const [fingerprint, nextFingerprint] = fingerprints(index, index + 1)
    return formatFingerprint({ fingerprint: fingerprint!, nextFingerprint })
  }
  const contact = (fingerprint: string) =>
    contactServer(
      {
        crypto,
        http: async (request) => {
          if (request.url.includes('/keys')) return server.keys.http(request)
          const info = {
            server_id: toBase64Url(server.keys.signer.publicKey),
            fingerprint: toBase64Url(server.fingerprint),
            next_fingerprint: toBase64Url(server.keys.nextFingerprint),
          }
          return { status: 200, body: new TextEncoder().encode(JSON.stringify(info)) }
        },
      },
      { serverUrl: 'ws://s', fingerprint, signal: undefined },
    )

  test('KEY-2: follows from a fingerprint that is given with the next one', async () => {
    await rotateTimes(3)
    const [fingerprint, nextFingerprint] = fingerprints(3, 4)
    expect((await contact(sheetOf(0))).server).toMatchObject({ fingerprint, nextFingerprint })
  })

  test('KEY-3: is an alarm when the list does not hold', async () => {
    await rotateTimes(2)
    server.keys.answer = async () => keysPage([await server.keys.change(0, 1, 5)])
    await expect(contact(sheetOf(0))).rejects.toBeInstanceOf(ClientStoppedError)
  })

  test('KEY-2: registers at a server that changed its key a moment ago', async () => {
    const [fingerprint, nextFingerprint] = fingerprints(0, 1)
    const fresh = createTestServer()
    await fresh.keys.rotate()
    const { identity } = await createAccount(parts(fresh, createMemoryStore()), {
      server: { url: 'ws://s', fingerprint: fingerprint!, nextFingerprint },
      name: 'first',
      platform: 'test',
      signal: undefined,
    })
    expect(identity.server.fingerprint).toEqual(fresh.keys.fingerprintOf(1))
  })

  test('KEY-2: recovers with a sheet from before three changes', async () => {
    const fresh = createTestServer()
    const made = await createAccount(parts(fresh, createMemoryStore()), {
      server: { url: 'ws://s', fingerprint: fresh.fingerprint, nextFingerprint: fresh.keys.nextFingerprint },
      name: 'first',
      platform: 'test',
      signal: undefined,
    })
    expect(made.sheet.serverFingerprint).toBe(sheetOf(0))
    for (let time = 0; time < 3; time++) await fresh.keys.rotate()
    const reading = readRecoveryPhrase(made.sheet.phrase)
    if (!reading.ok) throw new Error('no phrase')
    const recovered = await recoverAccount(parts(fresh, createMemoryStore()), {
      server: { url: 'ws://s', fingerprint: fresh.keys.fingerprintOf(0), nextFingerprint: fresh.keys.fingerprintOf(1) },
      recovery: await createRecoveryKeys(crypto, reading.entropy),
      name: 'second',
      platform: 'test',
      confirm: async () => true,
      signal: undefined,
    })
    expect(recovered?.server.fingerprint).toEqual(fresh.keys.fingerprintOf(3))
  })
})

test('KEY-5: a request made under an earlier key is answered with that key and the one after it', () => {
  const [zero, one, two, three] = fingerprints(0, 1, 2, 3)
  const pin = { url: 'ws://s', fingerprint: two!, nextFingerprint: three, retired: [zero!, one!] }
  expect(pinsOf(pin)).toEqual([
    pin,
    { url: 'ws://s', fingerprint: one, nextFingerprint: two, retired: [zero] },
    { url: 'ws://s', fingerprint: zero, nextFingerprint: one, retired: [] },
  ])
})

test('P1: the pin is kept sealed', async () => {
  await rotateTimes(1)
  await come()
  await live()
  const stored = await device.store.get('server-pin')
  expect(stored === undefined || Buffer.from(stored).includes(Buffer.from(server.keys.fingerprintOf(1)))).toBe(false)
  expect(sealer.open('server-pin', stored!)).toBeDefined()
})
