// The only reader of the environment: flags over environment over defaults, parsed once. A bad value stops the start
// with the variable's name and the form it wants. `VARIABLES` is the one table of them, for parsing, help and docs.

import { homedir } from 'node:os'
import { join } from 'node:path'
import { DEFAULT_LIMITS, type Limits } from '@valise/protocol'
import { z } from 'zod'
import { parseTrustedProxies, type TrustedProxies } from './gateway/client-address.ts'
import type { RateLimitRules } from './gateway/rate-limits.ts'

const integer = (min: number, max: number, unit: string) =>
  z
    .string()
    .regex(/^\d+$/, `expected a whole number of ${unit}`)
    .transform(Number)
    .pipe(z.int().min(min, `expected at least ${min} ${unit}`).max(max, `expected at most ${max} ${unit}`))

const url = (protocols: readonly string[]) =>
  z
    .string()
    .refine((text) => protocols.some((protocol) => text.startsWith(protocol)), `expected ${protocols.join('… or ')}…`)

/** Commas between the entries. */
const proxies = z
  .string()
  .optional()
  .transform((text, context): TrustedProxies => {
    const entries = (text ?? '').split(',').map((entry) => entry.trim())
    const parsed = parseTrustedProxies(entries.filter((entry) => entry !== ''))
    if (parsed !== undefined) return parsed
    context.addIssue('expected addresses or networks such as 10.0.0.0/8, with commas between')
    return z.NEVER
  })

const DAY_MS = 86_400_000

/** Every variable: how it parses, what holds without it, what it means. */
const VARIABLES = {
  HOST: { schema: z.string().min(1), fallback: '127.0.0.1', meaning: 'Address the public port binds to' },
  PORT: {
    schema: integer(0, 65_535, 'port'),
    fallback: '8787',
    meaning: 'Public port: WebSocket, mailbox, /.well-known/valise',
  },
  ADMIN_HOST: { schema: z.string().min(1), fallback: '127.0.0.1', meaning: 'Address the admin port binds to' },
  ADMIN_PORT: { schema: integer(0, 65_535, 'port'), fallback: '8788', meaning: 'Admin port: /live, /ready, /metrics' },
  DATABASE_URL: {
    schema: url(['postgres://', 'postgresql://']).optional(),
    fallback: undefined,
    meaning: 'PostgreSQL 15 or newer; without it an embedded database in the data folder',
  },
  REDIS_URL: {
    schema: url(['redis://', 'rediss://', 'unix://']).optional(),
    fallback: undefined,
    meaning: 'Redis, to run several nodes as one; without it a bus inside the process',
  },
  VALISE_DATA_DIR: {
    schema: z.string().min(1),
    fallback: undefined,
    meaning: 'Folder of the identity key and the embedded database; default ~/.valise-server',
  },
  VALISE_IDENTITY_FILE: {
    schema: z.string().min(1).optional(),
    fallback: undefined,
    meaning: "File of the server's identity key, the same on all nodes; default: identity.key in the data folder",
  },
  VALISE_REGISTRATION: {
    schema: z.enum(['open', 'closed']),
    fallback: 'open',
    meaning: 'Who may make a new user: open or closed',
  },
  VALISE_LOG_LEVEL: {
    schema: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']),
    fallback: 'info',
    meaning: 'trace, debug, info, warn, error or silent',
  },
  VALISE_SESSION_ROTATE_AFTER_MS: {
    schema: integer(1000, 30 * DAY_MS, 'milliseconds'),
    fallback: String(DAY_MS),
    meaning: 'Age at which a session needs a full handshake',
  },
  VALISE_SESSION_ROTATE_AFTER_EVENTS: {
    schema: integer(10, 1_000_000, 'events'),
    fallback: '1000',
    meaning: 'Events, published and delivered, under one set of session keys',
  },
  VALISE_SLOW_QUERY_MS: {
    schema: integer(1, 3_600_000, 'milliseconds'),
    fallback: '1000',
    meaning: 'A query that takes longer is counted as slow and logged',
  },
  VALISE_POOL_SIZE: {
    schema: integer(2, 200, 'connections'),
    fallback: '8',
    meaning: 'PostgreSQL connections of this node',
  },
  VALISE_HANDSHAKE_TIMEOUT_MS: {
    schema: integer(100, 120_000, 'milliseconds'),
    fallback: '10000',
    meaning: 'Time a socket has to finish its handshake',
  },
  VALISE_MAX_CONNECTIONS: {
    schema: integer(1, 1_000_000, 'connections'),
    fallback: '20000',
    meaning: 'Sockets this node accepts before it answers 503',
  },
  VALISE_SEND_BUFFER_BYTES: {
    schema: integer(16_384, 64 * 1024 * 1024, 'bytes'),
    fallback: String(1024 * 1024),
    meaning: 'Bytes waiting in a socket above which live delivery stops for it',
  },
  VALISE_INTAKE_BUFFER_BYTES: {
    schema: integer(1024 * 1024, 1024 * 1024 * 1024, 'bytes'),
    fallback: String(32 * 1024 * 1024),
    meaning: 'Bytes of events waiting for a commit above which sockets are not read',
  },
  VALISE_SLOW_CONSUMER_MS: {
    schema: integer(1000, DAY_MS, 'milliseconds'),
    fallback: '60000',
    meaning: 'Time a connection may take nothing from a full send buffer before it is closed',
  },
  VALISE_PING_INTERVAL_MS: {
    schema: integer(100, 600_000, 'milliseconds'),
    fallback: '20000',
    meaning: 'Silence after which a connection is pinged; after twice as long again it is gone',
  },
  VALISE_DEVICE_EVENTS_PER_S: {
    schema: integer(0, 1_000_000, 'events'),
    fallback: '200',
    meaning: 'Events a second that one device may publish; 0: as many as it likes',
  },
  VALISE_DEVICE_EVENTS_BURST: {
    schema: integer(1, 10_000_000, 'events'),
    fallback: '2000',
    meaning: 'Events that a device which was quiet may publish at once',
  },
  VALISE_USER_EVENTS_PER_S: {
    schema: integer(0, 1_000_000, 'events'),
    fallback: '1000',
    meaning: 'Events a second that all devices of a user may publish on this node; 0: as many as they like',
  },
  VALISE_USER_EVENTS_BURST: {
    schema: integer(1, 10_000_000, 'events'),
    fallback: '10000',
    meaning: 'Events that the devices of a user who was quiet may publish at once',
  },
  VALISE_HANDSHAKES_PER_MIN: {
    schema: integer(0, 1_000_000, 'handshakes'),
    fallback: '60',
    meaning: 'Handshakes a minute from one address before it is answered 429; 0: as many as it likes',
  },
  VALISE_HANDSHAKES_BURST: {
    schema: integer(1, 1_000_000, 'handshakes'),
    fallback: '60',
    meaning: 'Handshakes at once from an address that was quiet',
  },
  VALISE_TRUSTED_PROXIES: {
    schema: proxies,
    fallback: undefined,
    meaning: 'Proxies whose X-Forwarded-For counts: addresses and networks, with commas between',
  },
  VALISE_HEAD_POLL_MS: {
    schema: integer(50, 600_000, 'milliseconds'),
    fallback: '5000',
    meaning: 'How often the heads of connected users are compared with the log; a fifth of it while Redis is away',
  },
  VALISE_DRAIN_MS: {
    schema: integer(0, 600_000, 'milliseconds'),
    fallback: '10000',
    meaning: 'Time over which a node that stops on SIGTERM spreads the reconnects of its clients',
  },
  VALISE_PRESENCE_LEASE_MS: {
    schema: integer(500, 600_000, 'milliseconds'),
    fallback: '30000',
    meaning: 'Longest time for which a device can be shown online after its node died',
  },
  VALISE_MAX_PAYLOAD_BYTES: {
    schema: integer(128, 256 * 1024, 'bytes'),
    fallback: String(DEFAULT_LIMITS.max_payload),
    meaning: 'Application bytes in one event',
  },
  VALISE_MAX_DEVICES: {
    schema: integer(1, 50, 'devices'),
    fallback: String(DEFAULT_LIMITS.max_devices),
    meaning: 'Devices a user',
  },
  VALISE_MAX_STREAMS: {
    schema: integer(1, 1_000_000, 'streams'),
    fallback: String(DEFAULT_LIMITS.max_streams),
    meaning: 'Streams a user',
  },
} as const

export type Variable = keyof typeof VARIABLES

/** Raw values by variable: those of the environment, those of flags. */
export type RawConfig = Readonly<Partial<Record<Variable, string>>>

export interface Config {
  readonly host: string
  readonly port: number
  readonly adminHost: string
  readonly adminPort: number
  /** Undefined: the embedded database. */
  readonly databaseUrl: string | undefined
  /** Undefined: the bus inside the process. */
  readonly redisUrl: string | undefined
  readonly dataDir: string
  readonly identityFile: string
  readonly registration: 'open' | 'closed'
  readonly logLevel: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent'
  readonly rotateAfterMs: number
  readonly rotateAfterEvents: number
  readonly slowQueryMs: number
  readonly poolSize: number
  readonly handshakeTimeoutMs: number
  readonly maxConnections: number
  readonly sendBufferBytes: number
  readonly intakeBufferBytes: number
  readonly slowConsumerMs: number
  readonly pingIntervalMs: number
  readonly rateLimits: RateLimitRules
  readonly trustedProxies: TrustedProxies
  readonly headPollMs: number
  readonly drainMs: number
  readonly presenceLeaseMs: number
  readonly limits: Limits
}

/** A configuration that cannot be used; `message` names the variable and the form it wants, never the value. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

export const variableMeanings = (): ReadonlyMap<Variable, { fallback: string | undefined; meaning: string }> =>
  new Map(Object.entries(VARIABLES).map(([name, { fallback, meaning }]) => [name as Variable, { fallback, meaning }]))

/** Throws a ConfigError. An empty variable counts as absent. */
export function parseConfig(
  flags: RawConfig,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): Config {
  const read = <Name extends Variable>(name: Name, fallback: string | undefined = VARIABLES[name].fallback) => {
    const raw = flags[name] || environment[name] || fallback
    const parsed = VARIABLES[name].schema.safeParse(raw)
    if (!parsed.success) throw new ConfigError(`${name}: ${parsed.error.issues[0]?.message ?? 'not valid'}`)
    return parsed.data as z.infer<(typeof VARIABLES)[Name]['schema']>
  }
  const rule = (perSecond: number, burst: number) => (perSecond === 0 ? undefined : { perSecond, burst })
  const dataDir = read('VALISE_DATA_DIR', join(homedir(), '.valise-server'))
  return {
    host: read('HOST'),
    port: read('PORT'),
    adminHost: read('ADMIN_HOST'),
    adminPort: read('ADMIN_PORT'),
    databaseUrl: read('DATABASE_URL'),
    redisUrl: read('REDIS_URL'),
    dataDir,
    identityFile: read('VALISE_IDENTITY_FILE') ?? join(dataDir, 'identity.key'),
    registration: read('VALISE_REGISTRATION'),
    logLevel: read('VALISE_LOG_LEVEL'),
    rotateAfterMs: read('VALISE_SESSION_ROTATE_AFTER_MS'),
    rotateAfterEvents: read('VALISE_SESSION_ROTATE_AFTER_EVENTS'),
    slowQueryMs: read('VALISE_SLOW_QUERY_MS'),
    poolSize: read('VALISE_POOL_SIZE'),
    handshakeTimeoutMs: read('VALISE_HANDSHAKE_TIMEOUT_MS'),
    maxConnections: read('VALISE_MAX_CONNECTIONS'),
    sendBufferBytes: read('VALISE_SEND_BUFFER_BYTES'),
    intakeBufferBytes: read('VALISE_INTAKE_BUFFER_BYTES'),
    slowConsumerMs: read('VALISE_SLOW_CONSUMER_MS'),
    pingIntervalMs: read('VALISE_PING_INTERVAL_MS'),
    rateLimits: {
      device: rule(read('VALISE_DEVICE_EVENTS_PER_S'), read('VALISE_DEVICE_EVENTS_BURST')),
      user: rule(read('VALISE_USER_EVENTS_PER_S'), read('VALISE_USER_EVENTS_BURST')),
      address: rule(read('VALISE_HANDSHAKES_PER_MIN') / 60, read('VALISE_HANDSHAKES_BURST')),
    },
    trustedProxies: read('VALISE_TRUSTED_PROXIES'),
    headPollMs: read('VALISE_HEAD_POLL_MS'),
    drainMs: read('VALISE_DRAIN_MS'),
    presenceLeaseMs: read('VALISE_PRESENCE_LEASE_MS'),
    limits: {
      ...DEFAULT_LIMITS,
      max_payload: read('VALISE_MAX_PAYLOAD_BYTES'),
      max_devices: read('VALISE_MAX_DEVICES'),
      max_streams: read('VALISE_MAX_STREAMS'),
    },
  }
}
