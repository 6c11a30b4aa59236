// Strangers at the public port of a running server, each at an address of its own, while somebody pairs two devices by a
// code: through sessions, HTTP and both screens, as a person does.

import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { toBase64Url } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import pg from 'pg'
import { afterEach, describe, expect, test } from 'vitest'
import { type NodeDevice, openNodeDevice } from '../../client/src/node/index.ts'
import { drawNameplate } from '../src/devices/nameplate.ts'
import { JOINS_BY_NUMBER } from '../src/devices/pairing-uses.ts'
import { DATABASE_KINDS } from './support/open-database.ts'
import { startTestServer, type TestServer } from './support/server.ts'

const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

async function startServer(database: 'postgres' | 'pglite'): Promise<TestServer> {
  // The test's requests say which address they come from, as behind a proxy.
  const flags = { VALISE_TRUSTED_PROXIES: '127.0.0.1' }
  const server = await startTestServer({ database, flags })
  undo.push(server.close)
  return server
}

async function openDevice(): Promise<NodeDevice> {
  const home = await mkdtemp(join(tmpdir(), 'valise-home-'))
  undo.push(() => rm(home, { recursive: true, force: true }))
  const device = await openNodeDevice(home, { checkpointEvery: 0 })
  undo.push(device.close)
  return device
}

interface Showing {
  readonly code: string
  /** A phone is given the code; resolves with both outcomes. */
  finish(): Promise<readonly [unknown, unknown]>
}

/** A device of an account shows a code. */
async function showCode(server: TestServer): Promise<Showing> {
  const [laptop, phone] = [await openDevice(), await openDevice()]
  await laptop.initialise({ serverUrl: server.url, name: 'laptop' })
  laptop.client().start()
  const check = createPromise()
  const shown = createPromise()
  const watch = { onStep: () => {}, onResumed: () => {}, onRenewed: () => {}, onShown: () => {} }
  const letIn = laptop.pairExisting({
    screen: { ...watch, onShown: ({ code }) => shown.resolve(code) },
    decide: () => check.promise,
  })
  const code = await Promise.race([shown.promise, letIn.then(() => Promise.reject(new Error('no code was shown')))])
  return {
    code,
    finish: () => {
      const comesIn = phone.pairNew({
        offer: code,
        serverUrl: server.url,
        name: 'phone',
        screen: { ...watch, onStep: ({ check: digits }) => digits !== undefined && check.resolve(digits) },
      })
      return Promise.all([letIn, comesIn])
    },
  }
}

function createPromise() {
  let resolve: (text: string) => void = () => {}
  const promise = new Promise<string>((settle) => {
    resolve = settle
  })
  return { promise, resolve }
}

async function ask(server: TestServer, address: string, method: 'POST' | 'PUT', path: string): Promise<string> {
  const answer = await fetch(`${server.url.replace('ws', 'http')}/v1/pairings/${path}`, {
    method,
    headers: { authorization: `Bearer ${toBase64Url(randomBytes(16))}`, 'x-forwarded-for': address },
  })
  const { code = 'done' } = JSON.parse(await answer.text()) as { readonly code?: string }
  return code
}

describe.each(DATABASE_KINDS)('strangers try numbers at a server on %s', (kind) => {
  test('PAIR-11: a hundred addresses find no pairing and deny none: two devices pair by their code', async () => {
    const server = await startServer(kind)
    const { code, finish } = await showCode(server)
    // They know what a code looks like: it begins with nine digits.
    expect(code).toMatch(/^[1-9]\d{2}(-\d{3}){4}$/)
    const answers: string[] = []
    const startMs = performance.now()
    for (let round = 0; round < 10; round++) {
      const tries = Array.from({ length: 100 }, (_, i) =>
        ask(server, `10.${i}.0.1`, 'POST', `${drawNameplate(crypto)}/join`),
      )
      answers.push(...(await Promise.all(tries)))
    }
    expect(new Set(answers)).toEqual(new Set(['pairing_not_found', 'rate_limited']))
    // A quarter at least of what is saved up stays with those that have not failed.
    const { burst, perSecond } = JOINS_BY_NUMBER
    const filled = (perSecond * (performance.now() - startMs)) / 1000
    const admitted = answers.filter((answer) => answer === 'pairing_not_found').length
    expect(admitted).toBeLessThan(burst * 0.75 + filled)
    expect(await finish()).toMatchObject([{ name: 'phone' }, { name: 'phone' }])
  }, 120_000)
})

describe('strangers fill the places of a server', () => {
  test('PAIR-10: all taken by 34 addresses: a user shows a code and pairs, and the strangers displace each other', async () => {
    const server = await startServer('postgres')
    const db = new pg.Client({ connectionString: server.databaseUrl })
    await db.connect()
    undo.push(() => db.end())
    await db.query(
      `insert into pairing_mailboxes (mailbox_id, nameplate, displayer_hash, opener_address, expires_at)
       select decode(md5(n::text), 'hex'), 100000000 + n, sha256(n::text::bytea), '10.' || (n % 34) || '.0.1',
         now() + interval '10 minutes'
       from generate_series(1, 10000) as n`,
    )
    const { finish } = await showCode(server)
    const rows = await db.query(`select opener_address from pairing_mailboxes where opener_address not like '10.%'`)
    // The session says where its device is.
    expect(rows.rows).toEqual([{ opener_address: '127.0.0.1' }])
    // Those who hold most get no more, and one that holds none takes nothing of the user's.
    expect(await ask(server, '198.51.100.7', 'PUT', randomBytes(16).toString('hex'))).toBe('done')
    const evicted = await db.query(
      `select opener_address like '10.%' as is_stranger, count(*)::int as count
       from pairing_mailboxes where ending = 'evicted' group by 1`,
    )
    expect(evicted.rows).toEqual([{ is_stranger: true, count: 2 }])
    expect(await server.app.metrics.read('valise_pairings_total', { event: 'evicted' })).toBe(2)
    expect(await finish()).toMatchObject([{ name: 'phone' }, { name: 'phone' }])
  }, 120_000)
})
