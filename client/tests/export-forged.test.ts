// Export files by somebody who knows the format, and writes the running check anew over what he changed.

import { createHash } from 'node:crypto'
import { beforeAll, expect, test } from 'vitest'
import { createPair, publishAll } from './support/device-pair.ts'
import { check, exportOf } from './support/export-of.ts'
import { until } from './support/until.ts'

type Line = Record<string, unknown> & { readonly type: string }

let lines: Line[]
/** Two entries, of which the events know, a third, and an event, a tombstone and an event. */
beforeAll(async () => {
  const { server, first } = await createPair()
  const { client } = first
  client.start()
  await publishAll(client, ['one'])
  await client.flush()
  let isRefused = false
  server.intercept = (message, peer) => {
    if (message.type !== 'publish' || isRefused) return false
    isRefused = true
    peer.send({ type: 'refused', device_seq: 2, code: 'event_refused' })
    return true
  }
  await publishAll(client, ['refused'])
  await client.flush()
  await publishAll(client, ['three'])
  await client.flush()
  await until(() => client.cursor() === 3, 'everything to arrive')
  await client.rotateEpoch()
  lines = (await exportOf(first)).map((line) => JSON.parse(line))
})

/** The file of these lines, with the check in its last line as the format has it. */
function sealed(changed: readonly Line[]): string[] {
  let running: Uint8Array = new Uint8Array(32)
  return changed.map((line, at) => {
    const isLast = at === changed.length - 1
    const text = JSON.stringify(isLast ? { ...line, check: Buffer.from(running).toString('hex') } : line)
    running = createHash('sha256').update(running).update(text).digest()
    return text
  })
}
const at = (type: string, which = 0): number => lines.flatMap((line, i) => (line.type === type ? [i] : []))[which]!
const changing = (index: number, change: Record<string, unknown>): Line[] =>
  lines.with(index, { ...lines[index]!, ...change })
const entries = (): Line[] => lines.filter(({ type }) => type === 'device_log')

test('EXP-1: a file whose check was written anew is sound when nothing else was changed', async () => {
  expect(lines.map(({ type }) => type)).toEqual([
    'valise_export',
    ...Array(3).fill('device_log'),
    ...Array(3).fill('event'),
    'end',
  ])
  expect(lines[at('event', 1)]).toMatchObject({ content: null, size: 0 })
  expect(await check(sealed(lines))).toMatchObject({ events: 3, deviceLogEntries: 3 })
})

test.each<[string, () => Line[], () => number]>([
  ['the account in the header', () => changing(0, { user_id: '00'.repeat(32) }), () => 2],
  ['the number of an entry', () => changing(at('device_log', 1), { seq: 2 }), () => 3],
  ['the place of an entry', () => lines.with(2, entries()[2]!).with(3, entries()[1]!), () => 3],
  [
    'the place of the last entry, before the events,',
    () => [...lines.filter((line) => line !== entries()[2] && line.type !== 'end'), entries()[2]!, lines.at(-1)!],
    () => lines.length - 1,
  ],
  ['the device of an event', () => changing(at('event'), { device_id: lines[at('event')]!['event_id'] }), () => 5],
  ['the device_seq of an event', () => changing(at('event'), { device_seq: 2 }), () => 5],
  [
    'the content of a tombstone',
    () => changing(at('event', 1), { content: { type: 'text', at: 1, text: '' } }),
    () => 6,
  ],
  ['the size of a tombstone', () => changing(at('event', 1), { size: 1 }), () => 6],
  ['the number of events', () => changing(at('end'), { events: 4 }), () => lines.length],
  ['the number of leaves', () => changing(at('end'), { leaf: 1 }), () => lines.length],
  ['the number of void events', () => changing(at('end'), { void: 1 }), () => lines.length],
  ['the number of entries', () => changing(at('end'), { device_log_entries: 1 }), () => lines.length],
  [
    'the end, with another behind it,',
    () => [...lines.slice(0, -1), JSON.parse(sealed(lines).at(-1)!), lines.at(-1)!],
    () => lines.length + 1,
  ],
])('EXP-1: %s cannot be changed', async (_name, change, line) => {
  await expect(check(sealed(change()))).rejects.toThrow(new RegExp(`^Line ${line()}: `))
})

test('EXP-1: a time that nothing else vouches for cannot be changed under the same check', async () => {
  const text = sealed(lines)
  const changed = text.with(at('event'), JSON.stringify({ ...lines[at('event')]!, stored_at: 1 }))
  await expect(check(changed)).rejects.toThrow(`Line ${lines.length}: field check: `)
})
