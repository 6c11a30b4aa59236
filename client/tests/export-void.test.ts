// What a revoked device wrote beyond its cut, in an export and in an import of it.

import { formatUuid, parseEvent } from '@valise/protocol'
import { beforeEach, expect, test } from 'vitest'
import { importEvents, importPositionName } from '../src/export/import-events.ts'
import { createPair, publishAll } from './support/device-pair.ts'
import { check, each, exportOf } from './support/export-of.ts'
import { createManualClock } from './support/manual-clock.ts'
import { leaveOneBeyondCut } from './support/revoking.ts'
import { createFirstDevice, take, toText } from './support/test-device.ts'
import { createTestServer } from './support/test-server.ts'

/** Of an account with an event that counts, and one that does not. */
let lines: string[]
beforeEach(async () => {
  const pair = await createPair()
  const { first, second } = pair
  for (const { client } of [first, second]) client.start()
  await publishAll(second.client, ['counts'])
  expect(await take(first.client, 'notes', 1)).toEqual(['counts'])
  await leaveOneBeyondCut(pair)
  lines = await exportOf(first)
})

test('EXP-1: a revoked device’s events beyond its cut are there, not open, and found when they are called events', async () => {
  expect(await check(lines)).toMatchObject({ events: 1, voided: 1 })
  expect(lines.join('\n')).not.toContain('"text":"void"')
  const at = lines.findIndex((line) => JSON.parse(line).type === 'void')
  const { wire, ...place } = JSON.parse(lines[at]!)
  const counting = JSON.parse(lines[at - 1]!)
  // Called an event, with all that an event has, it is found.
  const header = parseEvent(new Uint8Array(Buffer.from(wire, 'base64url')))!
  const called = {
    ...counting,
    ...place,
    type: 'event',
    device_seq: header.deviceSeq,
    event_id: formatUuid(header.eventId),
    wire,
  }
  await expect(check(lines.with(at, JSON.stringify(called)))).rejects.toThrow(`Line ${at + 1}: the event is void`)
  // And so is an event that is called void.
  const uncalled = { ...place, user_seq: 1, stream_seq: 1, wire: counting.wire }
  await expect(check(lines.with(at - 1, JSON.stringify(uncalled)))).rejects.toThrow(
    `Line ${at}: expected an event that`,
  )
})

test('EXP-3: an import leaves what is void out', async () => {
  const { exportId } = await check(lines)
  const server = createTestServer()
  const { client } = await createFirstDevice(server)
  client.start()
  const counts = await importEvents(
    {
      client,
      clock: createManualClock(),
      positionName: importPositionName(exportId),
      done: 0,
      signal: AbortSignal.timeout(20_000),
    },
    each(lines),
  )
  expect(counts).toEqual({ published: 1, before: 0, expired: 0, unnamed: 0, tooLarge: 0 })
  await client.flush()
  expect(server.events).toHaveLength(1)
  const bodies: string[] = []
  for await (const { content } of client.device.reader.stored('notes')) bodies.push(toText(content.body))
  expect(bodies).toEqual(['counts'])
})
