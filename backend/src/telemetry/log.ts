// The structured log. Every line has an `event` (area.noun.verb) and a sentence. It never shows a secret or a
// payload: names that could hold one are redacted, bytes are shown as their length, and of an error only what its
// author wrote (a database error's detail and parameters can hold values, so they are left out). A flood of one event
// is summed up; lines of `debug` are all written, for only who asked for them gets them.

import { createHash } from 'node:crypto'
import { type DestinationStream, type Logger, pino } from 'pino'
import { formatLogLine } from './log-pretty.ts'
import { createRepeatLimiter, type RepeatRules, type Suppressed } from './log-repeats.ts'

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent'

/** `err` is shown with its cause; ids of users and devices go through `hashForLog`. */
export interface LogFields {
  readonly event: string
  readonly err?: unknown
  readonly [field: string]: unknown
}

export interface Log {
  debug(fields: LogFields, text: string): void
  info(fields: LogFields, text: string): void
  warn(fields: LogFields, text: string): void
  error(fields: LogFields, text: string): void
  /** The same log, with these fields in every line: what belongs to one connection, session or request. */
  child(fields: Readonly<Record<string, string | number>>): Log
  /** Writes the sums of what was held back so far; before the end. */
  flush(): void
}

export interface LogOptions {
  readonly level: LogLevel
  /** `auto`: for a person when standard error is a terminal, else JSON. Default: JSON. */
  readonly format?: 'auto' | 'json' | 'pretty'
  /** Without them every line is written. */
  readonly repeats?: RepeatRules
  /** Standard error by default: standard output belongs to whoever started the process. */
  readonly stream?: DestinationStream
}

const SECRET_FIELDS = [
  'authorization',
  'body',
  'ciphertext',
  'clientTraffic',
  'cookie',
  'databaseUrl',
  'headers',
  'masterSecret',
  'parameters',
  'password',
  'payload',
  'privateKey',
  'recoveryPhrase',
  'redisUrl',
  'secret',
  'secrets',
  'seed',
  'serverTraffic',
  'token',
  'url',
  'values',
  'wire',
]
/** The field itself, and one and two levels down. */
const REDACTED_PATHS = SECRET_FIELDS.flatMap((name) => [name, `*.${name}`, `*.*.${name}`])
const MAX_CAUSES = 4
const STDERR = 2

/** A stable short name for a public id: enough to follow one device through a log, useless for anything else. */
export function hashForLog(id: Uint8Array): string {
  return createHash('sha256').update('valise log').update(id).digest('hex').slice(0, 16)
}

export function createLog(options: LogOptions): Log {
  const { level, format = 'json', repeats } = options
  const settings = {
    level,
    redact: { paths: REDACTED_PATHS, censor: '[redacted]' },
    serializers: { err: (error: unknown) => describeError(error, MAX_CAUSES) },
    formatters: { level: (label: string) => ({ level: label }), log: hideBytes },
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
  }
  const stream = options.stream ?? pino.destination(STDERR)
  const isPretty = format === 'pretty' || (format === 'auto' && process.stderr.isTTY)
  const logger = pino(settings, isPretty ? prettyStream(stream) : stream)
  return repeats === undefined ? limitedLog(logger, undefined) : limitedLog(logger, createFloodGate(logger, repeats))
}

const prettyStream = (stream: DestinationStream): DestinationStream => ({
  write: (line) => stream.write(formatLogLine(line, process.stderr.hasColors?.() ?? false)),
})

type LimitedLevel = 'info' | 'warn' | 'error'

interface FloodGate {
  admit(event: string, level: LimitedLevel): boolean
  flush(): void
}

/** Keeps no process alive by itself. */
function createFloodGate(logger: Logger, rules: RepeatRules): FloodGate {
  const limiter = createRepeatLimiter<LimitedLevel>(rules, () => performance.now())
  let timer: NodeJS.Timeout | undefined
  const tell = (sums: readonly Suppressed<LimitedLevel>[]): void => {
    for (const { event, level, count } of sums) {
      logger[level]({ event, suppressed: count }, 'The same was to be said so many times more')
    }
  }
  const schedule = (): void => {
    timer ??= setTimeout(() => {
      timer = undefined
      tell(limiter.take('ended'))
      if (limiter.isHolding) schedule()
    }, rules.windowMs).unref()
  }
  return {
    admit: (event, level) => {
      const isAdmitted = limiter.admit(event, level)
      if (!isAdmitted) schedule()
      return isAdmitted
    },
    flush: () => {
      clearTimeout(timer)
      timer = undefined
      tell(limiter.take('all'))
    },
  }
}

function limitedLog(logger: Logger, gate: FloodGate | undefined): Log {
  const write =
    (level: LimitedLevel) =>
    (fields: LogFields, text: string): void => {
      if (!logger.isLevelEnabled(level)) return
      if (gate === undefined || gate.admit(fields.event, level)) logger[level](fields, text)
    }
  const limited: Log = {
    debug: (fields, text) => logger.debug(fields, text),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    child: (fields) => new BoundLog(limited, fields),
    flush: () => gate?.flush(),
  }
  return limited
}

/** Most connections never write a line: their fields wait as they are, where a child of pino's is 0.8 KB and 30 µs. */
class BoundLog implements Log {
  readonly #log: Log
  readonly #fields: Readonly<Record<string, string | number>>

  constructor(log: Log, fields: Readonly<Record<string, string | number>>) {
    this.#log = log
    this.#fields = fields
  }

  debug(fields: LogFields, text: string): void {
    this.#log.debug({ ...this.#fields, ...fields }, text)
  }

  info(fields: LogFields, text: string): void {
    this.#log.info({ ...this.#fields, ...fields }, text)
  }

  warn(fields: LogFields, text: string): void {
    this.#log.warn({ ...this.#fields, ...fields }, text)
  }

  error(fields: LogFields, text: string): void {
    this.#log.error({ ...this.#fields, ...fields }, text)
  }

  child(fields: Readonly<Record<string, string | number>>): Log {
    return new BoundLog(this.#log, { ...this.#fields, ...fields })
  }

  flush(): void {
    this.#log.flush()
  }
}

function hideBytes(fields: Record<string, unknown>): Record<string, unknown> {
  const shown: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(fields)) {
    shown[name] = value instanceof Uint8Array ? `[${value.length} bytes]` : value
  }
  return shown
}

function describeError(error: unknown, causesLeft: number): object {
  if (!(error instanceof Error)) return { message: String(error) }
  const code = 'code' in error && typeof error.code === 'string' ? { code: error.code } : {}
  const cause = error.cause !== undefined && causesLeft > 0 ? { cause: describeError(error.cause, causesLeft - 1) } : {}
  return { type: error.name, message: error.message, stack: error.stack, ...code, ...cause }
}
