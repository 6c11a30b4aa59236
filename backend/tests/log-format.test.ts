// The log for a person, the log under a flood, and the names of its events.

import { describe, expect, test } from 'vitest'
import { findLogEventFaults, judgeLogEvents } from '../../scripts/log-events.mjs'
import { createLog } from '../src/telemetry/log.ts'
import { formatLogLine } from '../src/telemetry/log-pretty.ts'
import { createRepeatLimiter } from '../src/telemetry/log-repeats.ts'
import { waitFor } from './support/open-database.ts'

const collect = (options: Partial<Parameters<typeof createLog>[0]> = {}) => {
  const lines: string[] = []
  const log = createLog({ level: 'info', stream: { write: (line) => void lines.push(line) }, ...options })
  return { lines, log, read: () => lines.map((line) => JSON.parse(line)) }
}

describe('a line for a person', () => {
  test('SEE-5: time, level, event, sentence, fields, and the stack of an error below', () => {
    const { lines, log } = collect({ format: 'pretty' })
    const err = Object.assign(new Error('outer', { cause: new Error('inner') }), { stack: 'Error: outer\n    at here' })
    log.warn({ event: 'db.query.slow', rows: 3, statement: 'read', err }, 'A query was slow')
    expect(lines[0]).toMatch(
      /^\d\d:\d\d:\d\d\.\d{3} {2}warn {3}db\.query\.slow {2}A query was slow {2}rows=3 statement=read\n/,
    )
    expect(lines[0]).toContain('    Error: outer\n        at here\n')
    expect(lines[0]).toContain('inner')
  })

  test('SEE-5: unless told otherwise, it is written only where standard error is a terminal', () => {
    const before = process.stderr.isTTY
    const showTerminal = (value: boolean) =>
      Object.defineProperty(process.stderr, 'isTTY', { value, configurable: true, writable: true })
    try {
      const areJson = [true, false].map((isTerminal) => {
        showTerminal(isTerminal)
        const { lines, log } = collect({ format: 'auto' })
        log.info({ event: 'app.start.end' }, 'It runs')
        return lines[0]?.startsWith('{')
      })
      expect(areJson).toEqual([false, true])
    } finally {
      showTerminal(before)
    }
  })

  test('SEE-5: nothing in it moves the cursor, turns the text, or makes a line of its own', () => {
    const json = JSON.stringify({
      level: 'info',
      time: new Date(0).toISOString(),
      event: 'a.b.c',
      msg: 'x\u001b[2J\r\n\u202ey',
    })
    expect(formatLogLine(json, false)).toBe('00:00:00.000  info   a.b.c  x\\u{1b}[2J\\u{d}\\u{a}\\u{202e}y\n')
    expect(formatLogLine('no json\u0007\n', false)).toBe('no json\\u{7}\n')
    expect(formatLogLine(json, true)).toContain('\u001b[36minfo \u001b[0m')
  })

  test('SEE-5: secrets are redacted there too', () => {
    const { lines, log } = collect({ format: 'pretty' })
    log.info({ event: 'a.b.c', password: 'plum' }, 'said')
    expect(lines[0]).toContain('password=[redacted]')
    expect(lines[0]).not.toContain('plum')
  })

  test('SEE-5: a child has its fields in every line', () => {
    const { log, read } = collect()
    log.child({ session: 'abc' }).child({ request: 7 }).error({ event: 'a.b.c' }, 'said')
    expect(read()[0]).toMatchObject({ event: 'a.b.c', session: 'abc', request: 7 })
  })
})

describe('a flood', () => {
  test('SEE-5: so many lines of an event are written, the rest are summed up by itself', async () => {
    const { log, read, lines } = collect({ repeats: { maxLines: 3, windowMs: 3000 } })
    for (let n = 0; n < 100; n++) log.child({ n }).warn({ event: 'a.b.c' }, 'said')
    log.error({ event: 'a.b.d' }, 'said')
    expect(lines).toHaveLength(4)
    await waitFor(
      'the sum',
      async () => lines.length,
      (count) => count === 5,
    )
    expect(read()[4]).toMatchObject({ level: 'warn', event: 'a.b.c', suppressed: 97 })
    log.warn({ event: 'a.b.c' }, 'said')
    expect(lines).toHaveLength(6)
  })

  test('SEE-5: what is held back at the end is told at the end, and debug is never held back', () => {
    const { log, read, lines } = collect({ level: 'debug', repeats: { maxLines: 1, windowMs: 60_000 } })
    for (let n = 0; n < 5; n++) log.info({ event: 'a.b.c' }, 'said')
    for (let n = 0; n < 5; n++) log.debug({ event: 'a.b.c' }, 'said')
    log.flush()
    log.flush()
    expect(lines).toHaveLength(7)
    expect(read()[6]).toMatchObject({ level: 'info', event: 'a.b.c', suppressed: 4 })
  })

  test('P5: a thousand names are remembered, and no more', () => {
    const limiter = createRepeatLimiter<string>({ maxLines: 1, windowMs: 10 }, () => 0)
    const admitted = Array.from({ length: 1500 }, (_, n) => limiter.admit(`event ${n}`, 'info')).filter(Boolean)
    expect(admitted).toHaveLength(1000)
  })

  test('SEE-5: windows follow each other, whatever the clock does in between', () => {
    let nowMs = 0
    const limiter = createRepeatLimiter<string>({ maxLines: 2, windowMs: 10 }, () => nowMs)
    const admit = (): boolean => limiter.admit('a', 'info')
    expect([admit(), admit(), admit()]).toEqual([true, true, false])
    expect(limiter.take('ended')).toEqual([])
    nowMs = 10
    expect(limiter.take('ended')).toEqual([{ event: 'a', level: 'info', count: 1 }])
    expect(limiter.isHolding).toBe(false)
    expect([admit(), admit(), admit()]).toEqual([true, true, false])
    nowMs = 1000
    expect(limiter.take('all')).toEqual([{ event: 'a', level: 'info', count: 1 }])
    expect(limiter.take('all')).toEqual([])
  })
})

describe('the names of events', () => {
  test('SEE-5: every event is area.noun.verb, and docs/LOGS.md tells of it', () => {
    expect(findLogEventFaults()).toEqual([])
  })

  test('SEE-5: what is not so is found', () => {
    const source =
      "log.info({ event: 'a.b.c' }, ''); log.warn({ event: 'Wrong' }, ''); log.warn({ event: 'a.b.d' }, ''); " +
      "log.warn({ event: `a.b.d` }, '')"
    expect(judgeLogEvents([source], '| `a.b.c` | info | x |\n| `a.b.e` | info | x |\n| `Wrong` | info | x |')).toEqual([
      'a log event is named by a template: `a.b.d`',
      'the log event Wrong is not area.noun.verb',
      'docs/LOGS.md does not tell of the log event a.b.d',
      'docs/LOGS.md tells of a.b.e, which nothing logs',
    ])
  })
})
