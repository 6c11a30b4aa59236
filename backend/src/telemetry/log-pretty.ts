// A line of the log for a person at a terminal: time, level, event, sentence, then the fields; an error's stack below.
// Nothing in it can move the cursor or change colours.

import { z } from 'zod'

const lineSchema = z.looseObject({
  level: z.string(),
  time: z.string(),
  event: z.string().optional(),
  msg: z.string().optional(),
})
const errorSchema = z.looseObject({ type: z.string().optional(), message: z.string(), stack: z.string().optional() })

const COLOURS: Readonly<Record<string, string>> = { debug: '2', info: '36', warn: '33', error: '31', fatal: '31' }
/** Of an ISO time, the time of day in UTC. */
const CLOCK = { from: 11, to: 23 } as const

/** `json` is a line as pino writes it; whatever else is shown as it stands. Ends with a line feed. */
export function formatLogLine(json: string, hasColour: boolean): string {
  const parsed = lineSchema.safeParse(parseJson(json))
  if (!parsed.success) return `${printable(json.trimEnd())}\n`
  const { level, time, event = '', msg = '', err, ...fields } = parsed.data
  const paint = (code: string, text: string): string => (hasColour ? `\u001b[${code}m${text}\u001b[0m` : text)
  const shown = Object.entries(fields).map(([name, value]) => `${name}=${textOf(value)}`)
  const words = [
    paint('2', time.slice(CLOCK.from, CLOCK.to)),
    paint(COLOURS[level] ?? '0', level.padEnd(5)),
    paint('1', printable(event)),
    printable(msg),
    paint('2', printable(shown.join(' '))),
  ]
  return `${words
    .filter((word) => word !== '')
    .join('  ')
    .trimEnd()}\n${errorLines(err)}`
}

function errorLines(err: unknown): string {
  const error = errorSchema.safeParse(err)
  if (!error.success) return ''
  const { type = 'Error', message, stack, cause } = error.data
  const lines = (stack ?? `${type}: ${message}`).split('\n').map((line) => `    ${printable(line)}\n`)
  return lines.join('') + errorLines(cause)
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value))

/** Control characters, and those that turn the reading direction, as escapes. */
const printable = (text: string): string =>
  text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`)

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
