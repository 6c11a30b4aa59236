// The device log has an end (P5): when it is full nothing enters but what saves the account or ends it.

import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  appendEntry,
  askForRecovery,
  authorOf,
  createKeys,
  offerEntry,
  sealAdd,
  sealClose,
  sealRecovery,
  sealRevoke,
  sealRotate,
  sealSuspend,
} from './bad-input/entries.ts'
import { createAccount } from './support/account.ts'
import { startTestServer, type TestServer } from './support/server.ts'

describe('a log that is full', () => {
  let server: TestServer
  beforeEach(async () => {
    server = await startTestServer({ database: 'postgres', flags: { VALISE_MAX_DEVICE_LOG_ENTRIES: '3' } })
  })
  afterEach(() => server?.close())

  test('P5, P6, REC-2: takes no device and no epoch more, but still what saves the account, and its end', async () => {
    const phrase = await createKeys('recovery')
    const account = await createAccount(server, { devices: 3, recovery: phrase })
    const [manager, lost, suspect] = account.devices
    const author = authorOf(manager!)
    const phrase2 = await createKeys('recovery')
    const session = await manager!.connect(server)
    expect(session.established.limits.max_device_log_entries).toBe(3)
    const full = { type: 'error', code: 'device_log_refused', rule: 'too_many_entries' }
    expect(await offerEntry(session, await sealRotate(account, author))).toMatchObject(full)
    const one = await sealAdd(account, author, await createKeys('member'))
    expect(await offerEntry(session, one)).toMatchObject(full)
    expect(await offerEntry(session, await askForRecovery(account, author, phrase2))).toMatchObject(full)
    expect(await offerEntry(session, await sealClose(account.log, author))).toMatchObject(full)
    await appendEntry(account, session, await sealSuspend(account, author, suspect!))
    await appendEntry(account, session, await sealRevoke(account, author, [lost!]))
    await appendEntry(account, session, await sealRecovery(account, author, phrase2, phrase.signer))
    const recovered = await sealAdd(account, authorOf({ keys: phrase2 }), await createKeys('manager'))
    await appendEntry(account, session, recovered)
    expect(await offerEntry(session, await sealAdd(account, author, await createKeys('member')))).toMatchObject(full)
    expect(await offerEntry(session, await sealRotate(account, author))).toMatchObject(full)
    expect((await offerEntry(session, await sealClose(account.log, author, phrase2.signer))).type).toBe(
      'device_log_appended',
    )
  })
})
