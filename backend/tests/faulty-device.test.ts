// A stolen device against a real server, with devices of the real SDK: it publishes what nobody can open, and everybody
// else goes on. The server accepts the cut that the devices computed, and takes nothing more from the thief.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { afterEach, describe, expect, test } from 'vitest'
import { type NodeDevice, openNodeDevice } from '../../client/src/node/index.ts'
import { DATABASE_KINDS, waitFor } from './support/open-database.ts'
import { startTestServer, type TestServer } from './support/server.ts'

const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

const live = (device: NodeDevice): Promise<void> => device.client().whenLive(AbortSignal.timeout(20_000))

async function publish(device: NodeDevice, ...texts: string[]): Promise<void> {
  for (const text of texts)
    await device.client().publish('notes', { type: 'text', body: new TextEncoder().encode(text) })
  await device.client().flush(AbortSignal.timeout(20_000))
}

/** What a reader that begins now is handed, own events included. */
async function shown(device: NodeDevice): Promise<string[]> {
  const texts: string[] = []
  for await (const { content } of device.client().device.reader.stored('notes')) {
    texts.push(new TextDecoder().decode(content.body))
  }
  return texts
}

const statusOf = async (device: NodeDevice, of: NodeDevice): Promise<string | undefined> => {
  const id = Buffer.from(of.account()!.deviceId).toString('hex')
  const found = (await device.devices()).find(({ deviceId }) => Buffer.from(deviceId).toString('hex') === id)
  return found?.status
}

describe.each(DATABASE_KINDS)('on %s', (database) => {
  async function createScene() {
    const folder = await mkdtemp(join(tmpdir(), 'valise-faulty-'))
    undo.push(() => rm(folder, { recursive: true, force: true }))
    const server: TestServer = await startTestServer({ database })
    undo.push(server.close)
    const open = async (name: string): Promise<NodeDevice> => {
      const device = await openNodeDevice(join(folder, name), { checkpointEvery: 0 })
      undo.push(device.close)
      return device
    }
    const laptop = await open('laptop')
    await laptop.initialise({ serverUrl: server.url, name: 'laptop' })
    laptop.client().start()
    await live(laptop)
    const admit = async (name: string): Promise<NodeDevice> => {
      const device = await open(name)
      let request = (_text: string): void => {}
      const requested = new Promise<string>((resolve) => {
        request = resolve
      })
      const linking = device.link({ serverUrl: server.url, name, onRequest: ({ text }) => request(text) })
      await laptop.approve({ request: await requested, confirm: async () => true })
      await linking
      device.client().start()
      await live(device)
      return device
    }
    return { laptop, tablet: await admit('tablet'), phone: await admit('phone') }
  }

  test('FLT-1, DEV-13: a member that publishes what nobody opens is suspended, and the others go on', async () => {
    const { laptop, tablet, phone } = await createScene()
    await publish(phone, 'a1')
    await publish(tablet, 't1')
    // From here on the phone seals under a key that nobody else has.
    const { epochKeys } = phone.client().device
    epochKeys.forget()
    epochKeys.keep(1, crypto.randomBytes(32))
    await phone.client().publish('notes', { type: 'text', body: Uint8Array.of(1) })

    for (const device of [laptop, tablet]) {
      await waitFor(
        'the suspension',
        () => statusOf(device, phone),
        (status) => status === 'suspended',
      )
    }
    await publish(tablet, 't2')
    await publish(laptop, 'l1')
    await waitFor(
      'both to show all',
      async () => (await Promise.all([laptop, tablet].map(shown))).map((texts) => texts.length),
      (counts) => counts.every((count) => count === 4),
    )
    expect(await shown(laptop)).toEqual(await shown(tablet))
    expect((await shown(laptop)).sort()).toEqual(['a1', 'l1', 't1', 't2'])
    for (const device of [laptop, tablet]) expect(device.client().state().type).toBe('live')

    // The server takes nothing more from it, and it keeps what it could not send.
    await phone.client().publish('notes', { type: 'text', body: Uint8Array.of(2) })
    await expect(phone.client().flush(AbortSignal.timeout(20_000))).rejects.toMatchObject({ code: 'suspended' })
    expect((await phone.status()).outboxEvents).toBeGreaterThan(0)
    await laptop.revoke([(await laptop.devices()).find(({ status }) => status === 'suspended')!], 'stolen')
    expect(await statusOf(laptop, phone)).toBe('revoked')
  })
})
