// Exports: everything a device can read, checked without a server, opening nothing else; and imports, which publish each
// event once however often they are interrupted.

import { parseEvent, toBase64Url, toHex } from '@valise/protocol'
import { beforeAll, describe, expect, test } from 'vitest'
import { ExportFileError, type WrittenLine } from '../src/export/export-lines.ts'
import { importEvents, importPositionName } from '../src/export/import-events.ts'
import { openEvent } from '../src/sealing/event-seal.ts'
import { eventSubkey, openEventWithSubkey } from '../src/sealing/event-subkey.ts'
import { readPosition } from '../src/store/positions.ts'
import { createPair, publishAll } from './support/device-pair.ts'
import { check, each, exportOf } from './support/export-of.ts'
import { createManualClock } from './support/manual-clock.ts'
import { createFirstDevice, rotateEpoch, type TestDevice, take } from './support/test-device.ts'
import { createTestServer } from './support/test-server.ts'
import { until } from './support/until.ts'

type EventLine = Extract<WrittenLine, { type: 'event' }>

const binary = Uint8Array.of(0xff, 0, 0x80, 10, 13)

/** Of two devices, two streams, two epochs, a body that is no text, a refused event and a lifetime. */
async function fillAccount() {
  const { server, first, second } = await createPair()
  for (const { client } of [first, second]) client.start()
  await publishAll(first.client, ['one', 'zwei\u2028 \u{1f4bc}', ''])
  await first.client.flush()
  await second.client.publish('pictures', { type: 'image', body: binary })
  await second.client.flush()
  await rotateEpoch(server, first)
  await publishAll(second.client, ['four', 'five'], 'notes')
  await second.client.flush()
  await first.client.publish('notes', { type: 'text', body: new TextEncoder().encode('short') }, { ttlS: 60, atMs: 5 })
  await first.client.flush()
  await until(() => first.client.cursor() === 7, 'everything to arrive')
  await first.client.close()
  await second.client.close()
  return { server, first, second }
}

describe('an export', () => {
  let first: TestDevice
  let second: TestDevice
  let lines: string[]
  beforeAll(async () => {
    ;({ first, second } = await fillAccount())
    lines = await exportOf(first)
  })
  const parsed = () => lines.map((line) => JSON.parse(line))
  const eventsOf = (stream: string | null) => parsed().filter((line) => line.type === 'event' && line.stream === stream)

  test('EXP-1: it holds everything readable, in order, and is found sound without a server', async () => {
    expect(parsed().map(({ type }) => type)).toEqual([
      'valise_export',
      'device_log',
      'device_log',
      'device_log',
      ...Array.from({ length: 7 }, () => 'event'),
      'end',
    ])
    expect(eventsOf('notes').map(({ content }) => content.text)).toEqual([
      'one',
      'zwei\u2028 \u{1f4bc}',
      '',
      'four',
      'five',
      'short',
    ])
    // The first device never used the stream of pictures, so it knows no name of it.
    expect(eventsOf(null)).toMatchObject([{ content: { type: 'image', base64url: toBase64Url(binary) }, size: 5 }])
    expect(eventsOf('notes').at(-1)).toMatchObject({ ttl_s: 60, content: { at: 5 } })
    expect(await check(lines)).toMatchObject({
      userId: first.identity.userId,
      deviceLogEntries: 3,
      events: 7,
      expired: 0,
      voided: 0,
      heldBack: 0,
      streams: 2,
    })
  })

  test('EXP-1: a name that is given stands at the events of its stream; another device tells the same', async () => {
    const named = await exportOf(first, ['pictures'])
    expect(named.map((line) => JSON.parse(line)).filter(({ stream }) => stream === 'pictures')).toHaveLength(1)
    expect(await check(named)).toMatchObject({ events: 7 })
    expect(await check(await exportOf(second))).toMatchObject({ userId: first.identity.userId, events: 7 })
  })

  test('EXP-1: every line that is changed, left out, doubled or moved is found, with its number', async () => {
    const failing = async (changed: readonly string[]): Promise<number> => {
      const outcome = await check(changed).then(
        () => undefined,
        (error: unknown) => error,
      )
      expect(outcome).toBeInstanceOf(ExportFileError)
      expect((outcome as ExportFileError).message).toMatch(/^Line \d+: /)
      return (outcome as ExportFileError).line
    }
    for (const at of lines.keys()) {
      const without = lines.filter((_, i) => i !== at)
      expect(await failing(without), `without line ${at + 1}`).toBeGreaterThanOrEqual(at + 1)
      const doubled = [...lines.slice(0, at + 1), ...lines.slice(at)]
      expect(await failing(doubled), `line ${at + 1} twice`).toBe(at + 2)
    }
    for (let at = 0; at < lines.length; at++) {
      expect(await failing(lines.slice(0, at)), `${at} lines`).toBe(at + 1)
    }
  })

  test.each<[string, (line: EventLine) => object]>([
    ['text', ({ content, ...line }) => ({ ...line, content: { ...content, text: 'changed' } })],
    ['type', ({ content, ...line }) => ({ ...line, content: { ...content, type: 'changed' } })],
    ['time', ({ content, ...line }) => ({ ...line, content: { ...content, at: 7 } })],
    ['size', (line) => ({ ...line, size: line.size + 1 })],
    ['content, none', (line) => ({ ...line, content: null })],
    ['event_id', (line) => ({ ...line, event_id: line.device_id })],
    ['stream_id', (line) => ({ ...line, stream_id: '00'.repeat(16) })],
    ['name', (line) => ({ ...line, stream: 'another' })],
    ['lifetime', (line) => ({ ...line, ttl_s: 1 })],
    ['user_seq', (line) => ({ ...line, user_seq: line.user_seq - 1 })],
    ['stream_seq', (line) => ({ ...line, stream_seq: line.stream_seq + 1 })],
    ['key', (line) => ({ ...line, key: toBase64Url(new Uint8Array(32)) })],
    ['signature', (line) => ({ ...line, wire: `${line.wire.slice(0, -6)}AAAAAA` })],
    ['field too many', (line) => ({ ...line, extra: 1 })],
  ])('EXP-1: an event with another %s is found', async (_name, change) => {
    // The second event of its stream, which has a name there already.
    const at = lines.findIndex((line) => line.includes('zwei'))
    const changed = lines.with(at, JSON.stringify(change(JSON.parse(lines[at]!))))
    await expect(check(changed)).rejects.toThrow(new RegExp(`^Line ${at + 1}: `))
  })

  test('EXP-1: what is no export says what was expected', async () => {
    await expect(check([])).rejects.toThrow('Line 1: expected the header of an export')
    await expect(check(['hello'])).rejects.toThrow('Line 1: not JSON; expected one whole object a line')
    await expect(check(['{"type":"topsecret"}'])).rejects.toThrow('Line 1: field type: expected a value as')
    await expect(check(['{"type":"topsecret"}'])).rejects.not.toThrow('topsecret')
  })

  test('EXP-2: no secret of an epoch or a device stands in it, and the key of an event opens that one alone', () => {
    const { epochKeys } = first.client.device
    const { secrets } = first.identity.keys
    const forbidden = [1, 2].flatMap((n) => [epochKeys.secretOf(n)!, epochKeys.contentKey(n)!])
    const whole = lines.join('\n')
    for (const secret of [...forbidden, secrets.signSeed, secrets.kemPrivateKey]) {
      expect(whole).not.toContain(toBase64Url(secret))
      expect(whole).not.toContain(toHex(secret))
    }
    const events = parsed()
      .filter(({ type }) => type === 'event')
      .map(({ wire }) => parseEvent(new Uint8Array(Buffer.from(wire, 'base64url')))!)
    for (const event of events) {
      const contentKey = epochKeys.contentKey(event.epoch)!
      const subkey = eventSubkey(contentKey, event)
      expect(openEventWithSubkey(subkey, event)).toEqual(openEvent(contentKey, event))
      for (const other of events) if (other !== event) expect(openEventWithSubkey(subkey, other)).toBeUndefined()
    }
  })
})

describe('an import', () => {
  const open = async (): Promise<TestDevice> => {
    const device = await createFirstDevice(createTestServer())
    device.client.start()
    return device
  }
  const importInto = async (device: TestDevice, source: AsyncIterable<string>, exportId: Uint8Array, nowMs = 0) => {
    const positionName = importPositionName(exportId)
    const clock = createManualClock(nowMs)
    const done = await readPosition(device.store, positionName)
    return importEvents(
      { client: device.client, clock, positionName, done, signal: AbortSignal.timeout(20_000) },
      source,
    )
  }

  test('EXP-3: it publishes all, in order, under the same names, with type, time and body', async () => {
    const { first } = await fillAccount()
    const lines = await exportOf(first, ['pictures'])
    const { exportId } = await check(lines)
    const device = await open()
    expect(await importInto(device, each(lines), exportId)).toEqual({
      published: 7,
      before: 0,
      expired: 0,
      unnamed: 0,
      tooLarge: 0,
    })
    await device.client.flush()
    const imported = await exportOf(device)
    const contents = (of: readonly string[]) =>
      of.map((line) => JSON.parse(line)).flatMap(({ stream, content }) => (content ? [{ stream, content }] : []))
    expect(contents(imported)).toEqual(contents(lines))
    expect(await check(imported)).toMatchObject({ events: 7, userId: device.identity.userId })
    // The same file again is done already.
    expect(await importInto(device, each(lines), exportId)).toMatchObject({ published: 0, before: 7 })
    await device.client.close()
  })

  test('EXP-3: cut off after any line, and begun again by a new process, nothing is missing or doubled', async () => {
    const { first } = await fillAccount()
    const lines = await exportOf(first)
    const { exportId } = await check(lines)
    async function* cutOff(after: number): AsyncGenerator<string> {
      yield* lines.slice(0, after)
      throw new Error('the power went')
    }
    const device = await open()
    for (let after = 4; after < lines.length; after++) {
      await expect(importInto(device, cutOff(after), exportId)).rejects.toThrow('the power went')
      await until(() => device.client.device.outbox.count === 0, 'what was queued to be sent')
      await device.restart()
      device.client.start()
    }
    await importInto(device, each(lines), exportId)
    await device.client.flush()
    expect(await take(device.client, 'notes', 0)).toEqual([])
    const bodies = (await exportOf(device))
      .map((line) => JSON.parse(line))
      .flatMap(({ stream, content }) => (stream === 'notes' ? [content.text] : []))
    expect(bodies).toEqual(['one', 'zwei\u2028 \u{1f4bc}', '', 'four', 'five', 'short'])
    await device.client.close()
  })

  test('EXP-3: a stream without a name gets its id; what outlived its lifetime stays out, and is counted', async () => {
    const { first } = await fillAccount()
    const lines = await exportOf(first)
    const { exportId } = await check(lines)
    const device = await open()
    const later = 10 ** 13
    expect(await importInto(device, each(lines), exportId, later)).toEqual({
      published: 6,
      before: 0,
      expired: 1,
      unnamed: 1,
      tooLarge: 0,
    })
    await device.client.flush()
    const names = new Set((await exportOf(device)).flatMap((line) => JSON.parse(line).stream ?? []))
    expect([...names].sort()).toEqual([expect.stringMatching(/^[0-9a-f]{32}$/), 'notes'])
    await device.client.close()
  })
})
