// The export file against docs/EXPORT.md: the fields of every kind of line are those of its table, and a reader that knows
// nothing but the document, and Node's own cryptography, gets the same out of the file.

import { createDecipheriv, createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { toHex } from '@valise/protocol'
import { beforeAll, describe, expect, test } from 'vitest'
import { createPair } from './support/device-pair.ts'
import { check, exportOf } from './support/export-of.ts'
import { publishHostile } from './support/hostile-device.ts'
import { expire } from './support/published-log.ts'
import { leaveOneBeyondCut } from './support/revoking.ts'
import { createNextDevice, text } from './support/test-device.ts'
import { until } from './support/until.ts'

type Line = Record<string, unknown> & { readonly type: string }

const STORED_AT_MS = 1_700_000_000_000
const BINARY = Uint8Array.of(0xff, 0, 0x80, 10, 13)
let lines: string[]
let parsed: Line[]

/** With a line of every kind, and an event with every field in each of its forms. */
beforeAll(async () => {
  const pair = await createPair()
  const { server, first, second } = pair
  server.distort = (message) => {
    if (message.type !== 'events') return [message]
    const events = message.events.map((item) => (item.length === 4 && item[0] === 1 ? expire(item) : item))
    return [{ ...message, events, at: STORED_AT_MS + 1000 }]
  }
  for (const { client } of [first, second]) client.start()
  await second.client.publish('notes', text('expired before it is read'), { ttlS: 1 })
  await second.client.publish('pictures', { type: 'image', body: BINARY })
  await second.client.flush()
  await first.client.publish('notes', text('zwei\u2028 \u{1f4bc}'), { ttlS: 60, atMs: 5 })
  await first.client.flush()
  // Its newest event is signed wrongly: nobody can say yet who did that, so it is held back.
  const third = await createNextDevice(server, first)
  server.push({ type: 'device_log', request_id: null, entries: [], head_seq: server.state!.seq })
  third.client.start()
  await third.client.whenLive()
  await third.client.close()
  await publishHostile(server, third, { text: 'held', fault: 'signature' })
  await until(() => first.client.cursor() === 4, 'everything to arrive')
  await leaveOneBeyondCut(pair)
  lines = await exportOf(first)
  parsed = lines.map((line) => JSON.parse(line))
})

const linesOf = (type: string): Line[] => parsed.filter((line) => line.type === type)
const bytesOf = (value: unknown): Buffer => Buffer.from(String(value), 'base64url')

/** By the name of the line: every name in backquotes in its row. */
function readTable(): Map<string, readonly string[]> {
  const document = readFileSync(new URL('../../docs/EXPORT.md', import.meta.url), 'utf8')
  const rows = document.split('\n').filter((line) => /^\| [^|]*`/.test(line))
  return new Map(
    rows.map((row) => {
      const [, kind = '', fields = ''] = row.split('|')
      const names = (part: string) => [...part.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name)
      const [type = ''] = names(kind)
      return [type, names(fields)]
    }),
  )
}

describe('the document', () => {
  test('EXP-4: names every kind of line, every field of it, and no other', () => {
    const table = readTable()
    expect([...table.keys()].sort()).toEqual([...new Set(parsed.map(({ type }) => type))].sort())
    for (const [type, names] of table) {
      const written = new Set<string>()
      for (const { type: _, ...fields } of linesOf(type)) {
        for (const name of Object.keys(fields)) written.add(name)
        for (const name of Object.keys(fields['content'] ?? {})) written.add(name)
      }
      expect([...written].sort(), type).toEqual([...new Set(names)].sort())
    }
  })

  test('EXP-4: bytes are base64url without padding, ids of users and streams hexadecimal, times milliseconds', () => {
    const forms: Record<string, RegExp> = {
      user_id: /^[0-9a-f]{64}$/,
      stream_id: /^[0-9a-f]{32}$/,
      export_id: /^[0-9a-f]{32}$/,
      inner: /^[0-9a-f]{64}$/,
      check: /^[0-9a-f]{64}$/,
      device_id: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
      event_id: /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/,
      entry: /^[\w-]+$/,
      wire: /^[\w-]+$/,
      key: /^[\w-]{43}$/,
      stored_at: /^1\d{12}$/,
      exported_at: /^1\d{12}$/,
    }
    for (const line of parsed) {
      for (const [name, value] of Object.entries(line)) {
        const form = forms[name]
        if (form !== undefined) expect(String(value), `${line.type}.${name}`).toMatch(form)
      }
    }
  })
})

describe('a reader of the document', () => {
  test('EXP-4: runs the check over the lines, and finds the user by the first entry', () => {
    let running: Uint8Array = new Uint8Array(32)
    for (const line of lines.slice(0, -1)) running = createHash('sha256').update(running).update(line).digest()
    expect(linesOf('end')[0]).toEqual({
      type: 'end',
      device_log_entries: linesOf('device_log').length,
      events: linesOf('event').length,
      leaf: linesOf('leaf').length,
      void: linesOf('void').length,
      held: linesOf('held').length,
      check: toHex(running),
    })
    const [genesis] = linesOf('device_log')
    const userId = createHash('sha256').update('valise user-id\0').update(bytesOf(genesis!['entry'])).digest('hex')
    expect(linesOf('valise_export')[0]).toMatchObject({ version: 2, user_id: userId })
    expect(linesOf('device_log').map(({ seq }) => seq)).toEqual([0, 1, 2, 3])
  })

  test('EXP-4: opens each event with its key, and finds in it what stands open', () => {
    for (const line of linesOf('event')) {
      const wire = bytesOf(line['wire'])
      const { header, nonce, sealed } = readWire(wire)
      const iv = Buffer.concat([Buffer.alloc(4), nonce.subarray(16)])
      const decipher = createDecipheriv('chacha20-poly1305', bytesOf(line['key']), iv, { authTagLength: 16 })
      decipher.setAAD(header, { plaintextLength: sealed.length - 16 }).setAuthTag(sealed.subarray(-16))
      const pad = Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()])
      const data = pad.subarray(4, 4 + pad.readUInt32BE())
      const content = line['content'] as { type: string; text?: string; base64url?: string }
      const body = content.text === undefined ? bytesOf(content.base64url) : Buffer.from(content.text)
      expect(data[0]).toBe(1)
      expect(data.includes(body)).toBe(true)
      expect(data.includes(content.type)).toBe(true)
      expect(line['size']).toBe(body.length)
      expect(header.subarray(1, 33).toString('hex')).toBe(linesOf('valise_export')[0]!['user_id'])
      expect(header.subarray(33, 49).toString('hex')).toBe(String(line['device_id']).replaceAll('-', ''))
      expect(header.readBigUInt64BE(49)).toBe(BigInt(line['device_seq'] as number))
      expect(header.subarray(89, 105).toString('hex')).toBe(line['stream_id'])
      expect(header.subarray(105, 121).toString('hex')).toBe(String(line['event_id']).replaceAll('-', ''))
      expect(header.readUInt32BE(165)).toBe(line['ttl_s'])
    }
    expect(linesOf('event')).toHaveLength(2)
  })

  test('EXP-4: closes the chain of a device over what is left of its events', () => {
    const device = linesOf('leaf')[0]!['device_id']
    const userId = Buffer.from(String(linesOf('valise_export')[0]!['user_id']), 'hex')
    const hash = (context: string, ...parts: Uint8Array[]) =>
      createHash('sha256').update(`valise ${context}\0`).update(Buffer.concat(parts)).digest()
    let chain = hash('chain-0', userId, Buffer.from(String(device).replaceAll('-', ''), 'hex'))
    let closed = 0
    for (const line of parsed) {
      const covered = coveredOf(line, hash)
      if (covered === undefined || covered.device !== device) continue
      if (covered.chainPrev !== undefined) expect(covered.chainPrev).toEqual(chain)
      chain = hash('chain', chain, hash('event', covered.ttlAndFlags, covered.inner))
      closed += 1
    }
    expect(closed).toBe(3)
  })

  test('EXP-4: finds every event in the order of user_seq, and the program agrees that the file is sound', async () => {
    const seqs = parsed.flatMap(({ user_seq }) => (user_seq === undefined ? [] : [user_seq]))
    expect(seqs).toEqual([1, 2, 3, 4, 5])
    expect(await check(lines)).toMatchObject({ events: 2, expired: 1, voided: 1, heldBack: 1, deviceLogEntries: 4 })
  })
})

/** H | LP(ct) | signature, as section E of docs/PROTOCOL.md has it. */
function readWire(wire: Buffer) {
  const headerBytes = 1 + 32 + 16 + 8 + 32 + 16 + 16 + 4 + 8 + 32 + 4 + 1 + 24
  const header = wire.subarray(0, headerBytes)
  const length = wire.readUInt32BE(headerBytes)
  const sealed = wire.subarray(headerBytes + 4, headerBytes + 4 + length)
  expect(wire).toHaveLength(headerBytes + 4 + length + 64)
  return { header, nonce: header.subarray(-24), sealed }
}

/** What the chain covers of a line, if it has a place in one. */
function coveredOf(line: Line, hash: (context: string, ...parts: Uint8Array[]) => Buffer) {
  if (line.type === 'leaf') {
    const ttlAndFlags = Buffer.alloc(5)
    ttlAndFlags.writeUInt32BE(line['ttl_s'] as number)
    ttlAndFlags.writeUInt8(line['flags'] as number, 4)
    return {
      device: line['device_id'],
      chainPrev: undefined,
      ttlAndFlags,
      inner: Buffer.from(String(line['inner']), 'hex'),
    }
  }
  if (line['wire'] === undefined) return undefined
  const wire = bytesOf(line['wire'])
  const { header } = readWire(wire)
  const device = header
    .subarray(33, 49)
    .toString('hex')
    .replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
  const inner = hash('event-inner', hash('event-body', wire.subarray(0, -64)), wire.subarray(-64))
  return { device, chainPrev: header.subarray(57, 89), ttlAndFlags: header.subarray(165, 170), inner }
}
