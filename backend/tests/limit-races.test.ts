// Limits a user, where they can race (DEV-1, P5): the last place taken at once on two nodes is taken once.

import { buildRole } from '@valise/protocol'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
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

describe('the last place of a limit, on two nodes at once', () => {
  let left: TestServer
  let right: TestServer
  beforeAll(async () => {
    const flags = { VALISE_MAX_DEVICES: '3', VALISE_MAX_STREAMS: '1' }
    left = await startTestServer({ database: 'postgres', flags })
    const { databaseUrl, identityFile } = left
    right = await startTestServer({ database: 'postgres', flags, databaseUrl: databaseUrl!, identityFile })
  })
  afterAll(async () => {
    await right?.close()
    await left?.close()
  })

  test('DEV-1: two devices added at once where one fits → one is added', async () => {
    const account = await createAccount(left, { devices: 2 })
    const [manager, member] = account.devices
    const here = await manager!.connect(left)
    const there = await member!.connect(right)
    const author = authorOf(manager!)
    const offers = [
      await sealAdd(account, author, await createKeys('member')),
      await sealAdd(account, author, await createKeys('member')),
    ]
    // The member's session carries what the manager signed: who may append is in the entry.
    const answers = await Promise.all([offerEntry(here, offers[0]!), offerEntry(there, offers[1]!)])
    expect(answers.map((answer) => (answer.type === 'error' ? answer.code : answer.type)).sort()).toEqual([
      'device_log_appended',
      'log_head_moved',
    ])
    const log = await here.ask({ type: 'fetch_device_log', request_id: 0, after_seq: null })
    expect(log).toMatchObject({ type: 'device_log', head_seq: 2 })
    await here.close()
    await there.close()
  })

  test('DEV-1: a device above the limit is refused, whoever signs it', async () => {
    const account = await createAccount(left, { devices: 3 })
    const session = await account.devices[0]!.connect(right)
    const offer = await sealAdd(account, authorOf(account.devices[0]!), await createKeys('member'))
    expect(await offerEntry(session, offer)).toMatchObject({ code: 'device_log_refused', rule: 'too_many_devices' })
    await session.close()
  })

  test('REC-2: the phrase signs a device in beyond the limit, one and no more', async () => {
    const account = await createAccount(left, { devices: 3 })
    const manager = authorOf(account.devices[0]!)
    const session = await account.devices[0]!.connect(left)
    const recovery = await createKeys('recovery')
    await appendEntry(account, session, await sealRecovery(account, manager, recovery))
    const byPhrase = authorOf({ keys: recovery })
    await appendEntry(account, session, await sealAdd(account, byPhrase, await createKeys('manager')))
    const refused = { code: 'device_log_refused', rule: 'too_many_devices' }
    const second = await sealAdd(account, byPhrase, await createKeys('manager'))
    expect(await offerEntry(session, second)).toMatchObject(refused)
    const third = await sealAdd(account, manager, await createKeys('member'))
    expect(await offerEntry(session, third)).toMatchObject(refused)
    await session.close()
  })

  test('P6, DEV-1: where more stand than are allowed now, another is refused and nothing else', async () => {
    const account = await createAccount(left, { devices: 3 })
    const [manager, member, lost] = account.devices
    const author = authorOf(manager!)
    const { databaseUrl, identityFile } = left
    const strict = await startTestServer({
      database: 'postgres',
      flags: { VALISE_MAX_DEVICES: '1' },
      databaseUrl: databaseUrl!,
      identityFile,
    })
    try {
      const session = await manager!.connect(strict)
      const another = await sealAdd(account, author, await createKeys('member'))
      expect(await offerEntry(session, another)).toMatchObject({ rule: 'too_many_devices' })
      await appendEntry(account, session, await sealRotate(account, author))
      const role = await buildRole(account.log, author, { deviceId: member!.deviceId, role: 'manager' })
      await appendEntry(account, session, { entry: role, boxes: [], links: [] })
      await appendEntry(account, session, await sealRevoke(account, author, [lost!]))
      expect((await offerEntry(session, await sealClose(account.log, author))).type).toBe('device_log_appended')
    } finally {
      await strict.close()
    }
  })

  test('P5: two new streams at once where one fits → one is stored, the other refused', async () => {
    const account = await createAccount(left, { devices: 2 })
    const [one, other] = account.devices
    const sessions = [await one!.connect(left), await other!.connect(right)]
    const events = [await one!.seal('notes'), await other!.seal('pictures')]
    sessions.forEach((session, i) => {
      session.publish([events[i]!.wire])
    })
    await Promise.all(
      sessions.map((session) =>
        session.until('an answer', () => session.receipts.length + session.refusals.length === 1),
      ),
    )
    expect(sessions.flatMap(({ receipts }) => receipts)).toHaveLength(1)
    expect(sessions.flatMap(({ refusals }) => refusals.map(({ code }) => code))).toEqual(['stream_limit_reached'])
    for (const session of sessions) await session.close()
  })
})
