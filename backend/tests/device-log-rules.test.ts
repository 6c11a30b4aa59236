// Every case of the device log's rules, at the server that stores the log and at the client that keeps it: an entry that
// breaks just one rule is refused by both with the code of that rule, and its mended twin by neither.

import { applyEntry, type DeviceLogRule, type DeviceLogState, deviceIdOf } from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { openLogBook } from '../../client/src/account/log-book.ts'
import { AlarmError } from '../../client/src/alarm.ts'
import { createMemoryStore } from '../../client/src/store/memory-store.ts'
import { deviceCases } from '../../protocol/tests/device-log-rules/device-cases.ts'
import { entryCases } from '../../protocol/tests/device-log-rules/entry-cases.ts'
import { epochCases } from '../../protocol/tests/device-log-rules/epoch-cases.ts'
import type { Offered } from '../../protocol/tests/device-log-rules/offers.ts'
import { pendingCases } from '../../protocol/tests/device-log-rules/pending-cases.ts'
import { createTestLog, entriesOf, type TestLog } from '../../protocol/tests/support/test-log.ts'
import { appendDeviceLogEntry, insertGenesis } from '../src/db/queries/device-log.ts'
import { createAccounts } from '../src/devices/accounts.ts'
import { describeChange } from '../src/devices/log-change.ts'
import { type OpenedDatabase, openDatabase } from './support/open-database.ts'

let log: TestLog
let opened: OpenedDatabase
beforeAll(async () => {
  log = await createTestLog()
  opened = await openDatabase('pglite')
})
afterAll(() => opened?.close())

/** The tables as these entries leave them, and nothing else in them. */
async function store(entries: readonly Uint8Array[]): Promise<void> {
  await opened.db.query({ name: '', text: 'truncate users cascade' }, [])
  let before: DeviceLogState | undefined
  for (const entry of entries) {
    const applied = applyEntry(nodeCrypto, before, entry)
    if (!applied.ok) throw new Error(applied.rule)
    const after = applied.state
    const change = describeChange({ crypto: nodeCrypto, before, after, entry, boxes: [], links: [] })
    const insert = before === undefined ? insertGenesis : appendDeviceLogEntry
    await opened.db.transaction({ name: 'test' }, (tx) => insert(tx, change))
    before = after
  }
}

async function offerToServer({ state, entry }: Offered): Promise<string> {
  await store(entriesOf(state))
  const accounts = createAccounts({ crypto: nodeCrypto, db: opened.db, maxDevices: 50, maxEntries: 10_000 })
  const { record } = log.manager
  const prover = { deviceId: deviceIdOf(nodeCrypto, record), publicKey: record.edPub }
  const answer =
    state === undefined
      ? await accounts.register(prover, { type: 'register', entry, boxes: [] })
      : await accounts.append(state.userId, {
          type: 'append_device_log',
          request_id: 1,
          entry,
          boxes: [],
          links: [],
        })
  return answer.type === 'refused' ? answer.rule : answer.type
}

async function offerToClient({ state, entry }: Offered): Promise<string> {
  const applied = applyEntry(nodeCrypto, state, entry)
  const { userId } = applied.ok ? applied.state : (state ?? log.state)
  const book = await openLogBook({ store: createMemoryStore(), crypto: nodeCrypto, userId })
  await book.append(entriesOf(state))
  try {
    await book.append([entry])
    return 'appended'
  } catch (error) {
    if (!(error instanceof AlarmError)) throw error
    return String(error.alarm.detail['rule'] ?? error.alarm.code)
  }
}

/** The server's in place of the rule, once a log stands. */
const OTHER_ANSWERS: Partial<Record<DeviceLogRule, string>> = {
  // Another device came first, most likely: the signer draws the entry up anew.
  seq: 'log_head_moved',
  prev: 'log_head_moved',
  // With the entry that closed it the account went.
  closed: 'deleted',
}

describe('entries that break one rule', () => {
  for (const { rule, title, offer } of [...entryCases, ...deviceCases, ...epochCases, ...pendingCases]) {
    test(`DEV-1: ${rule}: ${title}`, async () => {
      const broken = await offer(log, true)
      expect(await offerToServer(broken)).toBe(broken.state === undefined ? rule : (OTHER_ANSWERS[rule] ?? rule))
      expect(await offerToClient(broken)).toBe(rule)
      const mended = await offer(log, false)
      // Boxes, clock and rows are looked at after the rules, and these cases have none that fit.
      expect(await offerToServer(mended)).toMatch(/^(appended|envelope_mismatch|cut_false)$/)
      expect(await offerToClient(mended)).toBe('appended')
    })
  }
})
