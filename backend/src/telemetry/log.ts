// The structured log. Every line has an `event` (area.noun.verb) and a sentence. It never shows a secret or a
// payload: names that could hold one are redacted, bytes are shown as their length, and of an error only what its
// author wrote (a database error's detail and parameters can hold values, so they are left out).

import { createHash } from 'node:crypto'
import { type DestinationStream, pino } from 'pino'

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

/** To standard error by default: standard output belongs to whoever started the process. */
export function createLog(options: { level: LogLevel; stream?: DestinationStream }): Log {
  const settings = {
    level: options.level,
    redact: { paths: REDACTED_PATHS, censor: '[redacted]' },
    serializers: { err: (error: unknown) => describeError(error, MAX_CAUSES) },
    formatters: { level: (level: string) => ({ level }), log: hideBytes },
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
  }
  return pino(settings, options.stream ?? pino.destination(STDERR))
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
