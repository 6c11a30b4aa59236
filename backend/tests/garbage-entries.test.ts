// Entries that nobody may append cost no more than a look at two rows, however long the device log is.

import { applyEntry, buildRotate, type DeviceLogState } from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { afterEach, describe, expect, test } from 'vitest'
import type { Database } from '../src/db/database.ts'
import { createAccounts } from '../src/devices/accounts.ts'
import { createKeys, makeEpoch, sealAdd, sealGenesis } from './bad-input/entries.ts'
import type { TestAccount } from './support/account.ts'
import { DATABASE_KINDS, openDatabase } from './support/open-database.ts'

const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

const parts = { crypto: nodeCrypto, maxDevices: 50, maxEntries: 10_000 }

describe.each(DATABASE_KINDS)('a node that has not verified the log, on %s', (kind) => {
  test('DEV-17: reads it for an entry that a device of the account signed on its head, and for no other', async () => {
    const { db, close } = await openDatabase(kind)
    undo.push(close)
    const asked: string[] = []
    const counting: Database = {
      ...db,
      query: (statement, values) => {
        asked.push(statement.name)
        return db.query(statement, values)
      },
    }
    const manager = await createKeys('manager')
    const member = await createKeys('member')
    const stranger = await createKeys('manager')
    const genesis = await sealGenesis(manager)
    const registered = await createAccounts({ ...parts, db }).register(
      { deviceId: manager.deviceId, publicKey: manager.record.edPub },
      genesis,
    )
    if (registered.type !== 'registered') throw new Error(registered.type)
    const { userId } = registered.state
    const author = { signer: manager.signer, deviceId: manager.deviceId, timeMs: 0 }
    const added = await sealAdd(
      { log: registered.state, userId, epochSecret: nodeCrypto.randomBytes(32) } as TestAccount,
      author,
      member,
    )
    const first = createAccounts({ ...parts, db })
    const outcome = await first.append(userId, { type: 'append_device_log', request_id: 1, ...added })
    if (outcome.type !== 'appended') throw new Error(outcome.type)
    const { state } = outcome

    /** A rotation on some state by somebody. */
    const rotation = (on: DeviceLogState, by: typeof manager): Promise<Uint8Array> =>
      buildRotate(
        on,
        { ...author, signer: by.signer, deviceId: by.deviceId },
        makeEpoch(on, [manager.record, member.record]).start,
      )
    const honest = await rotation(state, manager)
    const changed = Uint8Array.from(honest)
    changed[changed.length - 10]! ^= 1
    const garbage: [name: string, entry: Uint8Array, answer: object][] = [
      ['random bytes', nodeCrypto.randomBytes(150), { type: 'refused', rule: 'malformed' }],
      ['a changed signature', changed, { type: 'refused', rule: 'signature' }],
      ['by a stranger', await rotation(state, stranger), { type: 'refused', rule: 'signer_unknown' }],
      ['by a member', await rotation(state, member), { type: 'refused', rule: 'signer_role' }],
      ['on an older head', await rotation(registered.state, manager), { type: 'log_head_moved' }],
      ['another genesis', genesis.entry, { type: 'refused', rule: 'genesis' }],
    ]
    const cold = createAccounts({ ...parts, db: counting })
    for (const [name, entry, answer] of garbage) {
      const refused = await cold.append(userId, {
        type: 'append_device_log',
        request_id: 1,
        entry,
        boxes: [],
        links: [],
      })
      expect(refused, name).toEqual(answer)
      // What the verifier itself says of it, which a client is told too.
      const verdict = applyEntry(nodeCrypto, state, entry)
      if (!verdict.ok && 'rule' in answer) expect(verdict.rule, name).toBe(answer.rule)
    }
    expect(asked).not.toContain('read_device_log')
    expect(asked.length).toBeLessThanOrEqual(2 * garbage.length)

    const mismatch = await cold.append(userId, {
      type: 'append_device_log',
      request_id: 1,
      entry: honest,
      boxes: [],
      links: [],
    })
    expect(mismatch).toEqual({ type: 'envelope_mismatch' })
    expect(asked).toContain('read_device_log')
  })
})
