// Where a device may go on in the log: only in the history that its cursor belongs to, and not beyond its end.

import { afterAll, beforeAll, expect, test } from 'vitest'
import { createAccount } from './support/account.ts'
import { startTestServer, type TestServer } from './support/server.ts'

let server: TestServer
beforeAll(async () => {
  server = await startTestServer({ database: 'pglite' })
})
afterAll(() => server?.close())

test('RET-5: a cursor of another history, or beyond the end of this one, gets resync_required and no event', async () => {
  const { devices } = await createAccount(server, { devices: 2 })
  const writing = await devices[0]!.connect(server)
  writing.publish((await devices[0]!.sealMany('notes', 3)).map(({ wire }) => wire))
  await writing.until('the receipts', () => writing.receipts.length === 3)

  const reading = await devices[1]!.connect(server)
  const { log_epoch } = reading.established
  const told = () => reading.messages.filter(({ type }) => type === 'resync_required')
  const another = log_epoch.slice()
  another[15]! ^= 1
  reading.send({ type: 'resume', cursor: 1, log_epoch: another })
  await reading.until('the other history', () => told().length === 1)
  reading.send({ type: 'resume', cursor: 4, log_epoch })
  await reading.until('the end', () => told().length === 2)
  expect(told()).toEqual([
    { type: 'resync_required', reason: 'log_epoch_changed', from: 1, to: 3 },
    { type: 'resync_required', reason: 'cursor_beyond_head', from: 1, to: 3 },
  ])
  expect(reading.events).toEqual([])

  reading.send({ type: 'resume', cursor: 1, log_epoch })
  await reading.until('the replay', () => reading.isCaughtUp)
  expect(reading.events.map(({ userSeq }) => userSeq)).toEqual([2, 3])
})
