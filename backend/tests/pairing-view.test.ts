// What the existing device has seen, the server must show the new one (PAIR-9): two devices of the real SDK pair over a
// server that takes the newest events away between the two.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { type NodeDevice, openNodeDevice } from '../../client/src/node/index.ts'
import type { PairingStep } from '../../client/src/pairing/run-pairing.ts'
import { startTestServer, type TestServer } from './support/server.ts'

let server: TestServer
const undo: (() => Promise<unknown>)[] = []
beforeEach(async () => {
  server = await startTestServer({ database: 'postgres' })
  undo.push(server.close)
})
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

async function openDevice(): Promise<NodeDevice> {
  const home = await mkdtemp(join(tmpdir(), 'valise-home-'))
  undo.push(() => rm(home, { recursive: true, force: true }))
  const device = await openNodeDevice(home, { checkpointEvery: 0 })
  undo.push(device.close)
  return device
}

/** A laptop that has published lines lets a phone in; `meanwhile` runs once the phone knows what the laptop has seen. */
async function pairPhone(meanwhile: () => Promise<void>): Promise<NodeDevice> {
  const [laptop, phone] = [await openDevice(), await openDevice()]
  await laptop.initialise({ serverUrl: server.url, name: 'laptop' })
  laptop.client().start()
  const encoder = new TextEncoder()
  for (const line of ['one', 'two', 'three']) {
    await laptop.client().publish('notes', { type: 'text', body: encoder.encode(line) })
  }
  await laptop.client().flush()
  const watch = { onStep: () => {}, onResumed: () => {}, onRenewed: () => {}, onShown: () => {} }
  let tellCheck: (digits: string) => void = () => {}
  const check = new Promise<string>((resolve) => {
    tellCheck = resolve
  })
  let tellOffer: (url: string) => void = () => {}
  const offer = new Promise<string>((resolve) => {
    tellOffer = resolve
  })
  const letIn = laptop.pairExisting({
    screen: { ...watch, onShown: ({ url }) => tellOffer(url) },
    decide: async () => {
      await meanwhile()
      return check
    },
  })
  const onStep = (step: PairingStep): void => void (step.check !== undefined && tellCheck(step.check))
  const comesIn = phone.pairNew({ offer: await offer, name: 'phone', screen: { ...watch, onStep } })
  await Promise.all([letIn, comesIn])
  return phone
}

const run = async (sql: string): Promise<void> => {
  const client = new pg.Client({ connectionString: server.databaseUrl })
  await client.connect()
  try {
    await client.query(sql)
  } finally {
    await client.end()
  }
}

test('PAIR-9: a new device that is shown all that the other has seen goes live, and compares it once', async () => {
  const phone = await pairPhone(async () => {})
  phone.client().start()
  await phone.client().whenLive(AbortSignal.timeout(20_000))
  expect(phone.client().cursor()).toBeGreaterThanOrEqual(4)
})

test('PAIR-9: a server that shows the new device an older state than the other has seen is found out', async () => {
  const phone = await pairPhone(async () => {
    await run('delete from events where user_seq > 2')
    await run('update users set last_user_seq = 2')
  })
  phone.client().start()
  await expect(phone.client().whenLive(AbortSignal.timeout(20_000))).rejects.toMatchObject({
    stopCause: { type: 'alarm', alarm: { code: 'events_withheld' } },
  })
})
