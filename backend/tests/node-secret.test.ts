// The secret that nodes share (BUS-7): made once, changed while nodes run, and worth nothing after its end.

import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { restoredCommand } from '../src/admin/restored-command.ts'
import { rotateSecretCommand } from '../src/admin/rotate-secret-command.ts'
import { openFromBus, sealForBus } from '../src/bus/bus-seal.ts'
import { readNodeSecrets } from '../src/db/queries/node-secrets.ts'
import { type NodeSecret, openNodeSecret, SECRET_CHANGE_MS } from '../src/node-secret.ts'
import { DATABASE_KINDS, type OpenedDatabase, openDatabase, waitFor } from './support/open-database.ts'

const MESSAGE = new Uint8Array(40).fill(5)
const CHANNEL = 'valise:user:somebody'

describe.each(DATABASE_KINDS)('the node secret on %s', (kind) => {
  let opened: OpenedDatabase
  let skewMs = 0
  const nodes: NodeSecret[] = []
  beforeAll(async () => {
    opened = await openDatabase(kind)
  })
  afterAll(async () => {
    for (const node of nodes) await node.close()
    await opened.close()
  })

  const openNode = async (): Promise<NodeSecret> => {
    const node = await openNodeSecret({
      db: opened.db,
      onFailure: (error) => {
        throw error
      },
      monotonicMs: () => performance.now() + skewMs,
    })
    nodes.push(node)
    return node
  }
  const hears = (listener: NodeSecret, speaker: NodeSecret): boolean =>
    openFromBus(listener.busKeys, CHANNEL, sealForBus(speaker.busKeys, CHANNEL, MESSAGE)) !== undefined
  const numbers = async (): Promise<number[]> => (await readNodeSecrets(opened.db)).map(({ number }) => number)
  const numberOf = ({ busKeys }: NodeSecret): number => busKeys.current().number
  const rotate = () => rotateSecretCommand.run(opened.db, {})

  test('BUS-7: nodes that start at once make one secret of 32 random bytes, and understand each other', async () => {
    const [here, there] = (await Promise.all([openNode(), openNode(), openNode()])) as [
      NodeSecret,
      NodeSecret,
      NodeSecret,
    ]
    expect(await numbers()).toEqual([1])
    const [row] = await readNodeSecrets(opened.db)
    expect(row?.secret).toHaveLength(32)
    expect(new Set(row?.secret).size).toBeGreaterThan(10)
    expect([hears(here, there), hears(there, here)]).toEqual([true, true])
  })

  test('BUS-7: a change parts no nodes: whoever has read it and whoever has not understand each other', async () => {
    const [old, next] = [await openNode(), await openNode()]
    expect(await rotate()).toEqual({ type: 'rotated', number: 2, oldEndsInMs: SECRET_CHANGE_MS })
    await next.read()
    const late = await openNode()
    for (const node of [next, late]) {
      expect(numberOf(node)).toBe(1)
      expect([hears(old, node), hears(node, old)]).toEqual([true, true])
    }
    // By now every node has read it.
    skewMs += SECRET_CHANGE_MS / 2
    await old.read()
    skewMs += 1000
    expect(numberOf(next)).toBe(2)
    expect([hears(old, next), hears(next, old)]).toEqual([true, true])
  })

  test('BUS-7: a second change waits for the first', async () => {
    const outcome = await rotate()
    expect(outcome.type).toBe('too_soon')
    expect(outcome.type === 'too_soon' && outcome.retryAfterMs).toBeLessThanOrEqual(SECRET_CHANGE_MS)
    expect(await numbers()).toEqual([2, 1])
  })

  test('BUS-7: the old secret is worth nothing when its time is over, also where the database is out of reach', async () => {
    const node = await openNode()
    const sealed = sealForBus(node.busKeys, CHANNEL, MESSAGE)
    const [newest, before] = await readNodeSecrets(opened.db)
    expect([newest?.number, before?.number]).toEqual([2, 1])
    expect(node.busKeys.find(1)).toBeDefined()
    skewMs += SECRET_CHANGE_MS
    expect(node.busKeys.find(1)).toBeUndefined()
    expect(openFromBus(node.busKeys, CHANNEL, sealed) === undefined).toBe(sealed.readUInt32BE(MESSAGE.length) === 1)
    expect(hears(node, node)).toBe(true)
  })

  test('BUS-7: a message under an unknown number has the database read, once for many of them', async () => {
    const node = await openNode()
    await opened.db.query(
      { name: '', text: `update node_secrets set made_at = made_at - interval '1 day' where number = 2` },
      [],
    )
    await rotate()
    expect(await numbers()).toEqual([3, 2])
    expect(node.busKeys.find(3)).toBeUndefined()
    const before = await opened.metrics.read('database_queries_total')
    for (let i = 0; i < 1000; i++) node.busKeys.noteUnknown()
    await waitFor(
      'the new secret',
      async () => node.busKeys.find(3),
      (key) => key !== undefined,
    )
    expect((await opened.metrics.read('database_queries_total')) - before).toBeLessThanOrEqual(2)
  })

  test('BUS-7: after a backup was put back no captured message counts, not even for a moment', async () => {
    const node = await openNode()
    const captured = sealForBus(node.busKeys, CHANNEL, MESSAGE)
    await restoredCommand.run(opened.db, {})
    expect(await numbers()).toEqual([4])
    await node.read()
    expect(openFromBus(node.busKeys, CHANNEL, captured)).toBeUndefined()
    expect(hears(await openNode(), node)).toBe(true)
  })
})
