// The device log has an end (P5): when it is full nothing enters but what cuts a device off or ends the account.

import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  appendEntry,
  authorOf,
  createKeys,
  offerEntry,
  sealAdd,
  sealClose,
  sealRecovery,
  sealRevoke,
  sealRotate,
} from './bad-input/entries.ts'
import { createAccount } from './support/account.ts'
import { startTestServer, type TestServer } from './support/server.ts'

describe('a log that is full', () => {
  let server: TestServer
  beforeEach(async () => {
    server = await startTestServer({ database: 'postgres', flags: { VALISE_MAX_DEVICE_LOG_ENTRIES: '3' } })
  })
  afterEach(() => server?.close())

  test('P5, P6, REC-2: takes no device and no epoch more, but still a revocation, a recovery and the end of the account', async () => {
    const account = await createAccount(server, { devices: 2 })
    const [manager, lost] = account.devices
    const author = authorOf(manager!)
    const session = await manager!.connect(server)
    expect(session.established.limits.max_device_log_entries).toBe(3)
    await appendEntry(account, session, await sealRotate(account, author))
    const full = { type: 'error', code: 'device_log_refused', rule: 'too_many_entries' }
    expect(await offerEntry(session, await sealRotate(account, author))).toMatchObject(full)
    const one = await sealAdd(account, author, await createKeys('member'))
    expect(await offerEntry(session, one)).toMatchObject(full)
    await appendEntry(account, session, await sealRevoke(account, author, [lost!]))
    const recovery = await createKeys('recovery')
    await appendEntry(account, session, await sealRecovery(account, author, recovery))
    const recovered = await sealAdd(account, authorOf({ keys: recovery }), await createKeys('manager'))
    await appendEntry(account, session, recovered)
    expect(await offerEntry(session, await sealAdd(account, author, await createKeys('member')))).toMatchObject(full)
    expect(await offerEntry(session, await sealRotate(account, author))).toMatchObject(full)
    expect((await offerEntry(session, await sealClose(account.log, author))).type).toBe('device_log_appended')
  })
})
