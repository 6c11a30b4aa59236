// The table of everything the server can be told by flags or environment: how each variable parses, what holds
// without it, and what it means. For parsing (config.ts), help and docs.
// More than 300 lines: it is the one table of all variables.

import { DEFAULT_LIMITS } from '@valise/protocol'
import { z } from 'zod'
import { parseDatabaseUrl } from './db/database-url.ts'
import { parseOrigin } from './http/origins.ts'
import { parseTrustedProxies, type TrustedProxies } from './limits/client-address.ts'

const integer = (min: number, max: number, unit: string) =>
  z
    .string()
    .regex(/^\d+$/, `expected a whole number of ${unit}`)
    .transform(Number)
    .pipe(z.int().min(min, `expected at least ${min} ${unit}`).max(max, `expected at most ${max} ${unit}`))

const PORT_FORM = 'expected a port from 0 to 65535'
const port = z.string().regex(/^\d+$/, PORT_FORM).transform(Number).pipe(z.int().max(65_535, PORT_FORM))

const url = (protocols: readonly string[]) =>
  z
    .string()
    .refine((text) => protocols.some((protocol) => text.startsWith(protocol)), `expected ${protocols.join('… or ')}…`)

/** An IPv6 address may stand in brackets, as in a URL. */
const host = z
  .string()
  .min(1)
  .transform((text) => /^\[([0-9a-f:.%]+)\]$/i.exec(text)?.[1] ?? text)

const databaseUrl = url(['postgres://', 'postgresql://']).superRefine((text, context) => {
  const parsed = parseDatabaseUrl(text)
  if (!parsed.ok) context.addIssue(parsed.problem)
})

/** `unix://` has a path and no host, and a password may stand before it. */
const redisUrl = url(['redis://', 'rediss://', 'unix://']).refine(
  (text) => text.startsWith('unix://') || URL.canParse(text),
  'is no valid URL; percent-encode special characters in user and password, for example %40 for @ and %2F for /',
)

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

/** Commas between them; lower case afterwards. */
const hostNames = z
  .string()
  .optional()
  .transform((text) => (text ?? '').split(',').map((entry) => entry.trim().toLowerCase()))
  .transform((entries) => entries.filter((entry) => entry !== ''))
  .refine(
    (entries) => entries.every((entry) => /^[a-z0-9._-]+$/.test(entry)),
    'expected names such as valise.example.org, with commas between',
  )

/** Commas between them. */
const origins = z
  .string()
  .optional()
  .transform((text, context): readonly string[] => {
    const entries = (text ?? '').split(',').map((entry) => entry.trim())
    const parsed = entries.filter((entry) => entry !== '').map(parseOrigin)
    if (parsed.every((origin) => origin !== undefined)) return parsed
    context.addIssue('expected origins such as https://app.example.org, without a path, with commas between')
    return z.NEVER
  })

const DAY_MS = 86_400_000
/** Room for a few events of the largest size. */
const MIN_USER_BYTES = 1024 * 1024

/** Room for an event of the largest size. */
const MIN_BURST_BYTES = 512 * 1024
/** What `session_established` can announce. */
const MAX_U32 = 2 ** 32 - 1

/** Every variable: how it parses, what holds without it, what it means. */
export const VARIABLES = {
  HOST: { schema: host, fallback: '127.0.0.1', meaning: 'Address the public port binds to' },
  PORT: {
    schema: port,
    fallback: '8787',
    meaning: 'Public port: WebSocket, mailbox, /.well-known/valise',
  },
  VALISE_ORIGINS: {
    schema: origins,
    fallback: undefined,
    meaning:
      'Web pages that may use the public port, as origins with commas between; without it, pages of this machine on a loopback HOST, and any page on another HOST',
  },
  ADMIN_HOST: { schema: host, fallback: '127.0.0.1', meaning: 'Address the admin port binds to' },
  ADMIN_PORT: {
    schema: port,
    fallback: '8788',
    meaning: 'Admin port: status page, /live, /ready, /metrics',
  },
  VALISE_ADMIN_NAMES: {
    schema: hostNames,
    fallback: undefined,
    meaning: 'Names other than localhost under which the admin port is asked for numbers, with commas between',
  },
  DATABASE_URL: {
    schema: databaseUrl.optional(),
    fallback: undefined,
    meaning:
      'PostgreSQL 15 or newer, several hosts with commas between; without it an embedded database in the data folder',
  },
  REDIS_URL: {
    schema: redisUrl.optional(),
    fallback: undefined,
    meaning: 'Redis, to run several nodes as one; without it a bus inside the process',
  },
  VALISE_DATA_DIR: {
    schema: z.string().min(1).optional(),
    fallback: undefined,
    meaning: 'Folder of the identity key and the embedded database; default ~/.valise-server',
  },
  VALISE_IDENTITY_FILE: {
    schema: z.string().min(1).optional(),
    fallback: undefined,
    meaning: "File of the server's identity key, the same on all nodes; default: identity.key in the data folder",
  },
  VALISE_REGISTRATION: {
    schema: z.enum(['open', 'invite', 'closed']),
    fallback: 'open',
    meaning: 'Who may make a new user: open, invite (whoever has an invitation) or closed',
  },
  VALISE_LOG_LEVEL: {
    schema: z.enum(['trace', 'debug', 'info', 'warn', 'error', 'silent']),
    fallback: 'info',
    meaning: 'trace, debug, info, warn, error or silent',
  },
  VALISE_LOG_FORMAT: {
    schema: z.enum(['auto', 'json', 'pretty']),
    fallback: 'auto',
    meaning: 'json, pretty, or auto: pretty on a terminal, else json',
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
    fallback: String(DEFAULT_LIMITS.handshake_timeout_ms),
    meaning: 'Time a socket has to finish its handshake, and a request over HTTP to tell what it wants',
  },
  VALISE_REGISTRATION_TIMEOUT_MS: {
    schema: integer(100, 600_000, 'milliseconds'),
    fallback: '30000',
    meaning: 'Time a session of a device without an account has to register one',
  },
  VALISE_MAX_CONNECTIONS: {
    schema: integer(1, 1_000_000, 'connections'),
    fallback: '20000',
    meaning: 'Sockets this node accepts before it answers 503',
  },
  VALISE_MAX_CONNECTIONS_PER_ADDRESS: {
    schema: integer(0, 1_000_000, 'connections'),
    fallback: '1000',
    meaning: 'WebSockets of one address on this node; 0: not limited',
  },
  VALISE_MAX_HTTP_CONNECTIONS_PER_ADDRESS: {
    schema: integer(0, 1_000_000, 'connections'),
    fallback: '256',
    meaning: 'Connections of one address that are no WebSockets, or not yet, on this node; 0: not limited',
  },
  VALISE_MAX_HTTP_CONNECTIONS: {
    schema: integer(1, 1_000_000, 'connections'),
    fallback: '4096',
    meaning: 'Connections that are no WebSockets, or not yet, before further ones are answered 503',
  },
  VALISE_SEND_BUFFER_BYTES: {
    schema: integer(16_384, 64 * 1024 * 1024, 'bytes'),
    fallback: String(DEFAULT_LIMITS.send_buffer_bytes),
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
    fallback: String(DEFAULT_LIMITS.device_events_per_s),
    meaning: 'Events a second that one device may publish; 0: as many as it likes',
  },
  VALISE_DEVICE_EVENTS_BURST: {
    schema: integer(1, 10_000_000, 'events'),
    fallback: String(DEFAULT_LIMITS.device_events_burst),
    meaning: 'Events that a device which was quiet may publish at once',
  },
  VALISE_USER_EVENTS_PER_S: {
    schema: integer(0, 1_000_000, 'events'),
    fallback: String(DEFAULT_LIMITS.user_events_per_s),
    meaning: 'Events a second that all devices of a user may publish on this node; 0: as many as they like',
  },
  VALISE_USER_EVENTS_BURST: {
    schema: integer(1, 10_000_000, 'events'),
    fallback: String(DEFAULT_LIMITS.user_events_burst),
    meaning: 'Events that the devices of a user who was quiet may publish at once',
  },
  VALISE_DEVICE_BYTES_PER_S: {
    schema: integer(0, MAX_U32, 'bytes'),
    fallback: String(DEFAULT_LIMITS.device_bytes_per_s),
    meaning: 'Bytes of sealed events a second that one device may publish; 0: as many as it likes',
  },
  VALISE_DEVICE_BYTES_BURST: {
    schema: integer(MIN_BURST_BYTES, MAX_U32, 'bytes'),
    fallback: String(DEFAULT_LIMITS.device_bytes_burst),
    meaning: 'Bytes of sealed events that a device which was quiet may publish at once',
  },
  VALISE_USER_BYTES_PER_S: {
    schema: integer(0, MAX_U32, 'bytes'),
    fallback: String(DEFAULT_LIMITS.user_bytes_per_s),
    meaning:
      'Bytes of sealed events a second that all devices of a user may publish on this node; 0: as many as they like',
  },
  VALISE_USER_BYTES_BURST: {
    schema: integer(MIN_BURST_BYTES, MAX_U32, 'bytes'),
    fallback: String(DEFAULT_LIMITS.user_bytes_burst),
    meaning: 'Bytes of sealed events that the devices of a user who was quiet may publish at once',
  },
  VALISE_DEVICE_APPENDS_PER_MIN: {
    schema: integer(0, 1_000_000, 'entries'),
    fallback: '60',
    meaning:
      'Entries a minute that one device may append to the device log, and as many again that revoke, suspend, cancel or recover; 0: as many as it likes',
  },
  VALISE_DEVICE_APPENDS_BURST: {
    schema: integer(1, 1_000_000, 'entries'),
    fallback: '200',
    meaning: 'Entries that a device which was quiet may append at once',
  },
  VALISE_USER_APPENDS_PER_MIN: {
    schema: integer(0, 1_000_000, 'entries'),
    fallback: '120',
    meaning:
      'Entries a minute that all devices of a user may append on this node, without those that revoke, suspend, cancel or recover; 0: as many as they like',
  },
  VALISE_USER_APPENDS_BURST: {
    schema: integer(1, 1_000_000, 'entries'),
    fallback: '400',
    meaning: 'Entries that the devices of a user who was quiet may append at once',
  },
  VALISE_REGISTRATIONS_PER_HOUR: {
    schema: integer(0, 1_000_000, 'accounts'),
    fallback: '20',
    meaning:
      'Accounts an hour that one address may register without an invitation; its networks 4 or 16 times as many; 0: as many as it likes',
  },
  VALISE_REGISTRATIONS_BURST: {
    schema: integer(1, 1_000_000, 'accounts'),
    fallback: '20',
    meaning: 'Accounts that an address which was quiet may register at once',
  },
  VALISE_NODE_REGISTRATIONS_PER_MIN: {
    schema: integer(0, 1_000_000, 'accounts'),
    fallback: '60',
    meaning:
      'Accounts a minute that this node registers without invitations, for all addresses together; 0: as many as come',
  },
  VALISE_NODE_REGISTRATIONS_BURST: {
    schema: integer(1, 1_000_000, 'accounts'),
    fallback: '300',
    meaning: 'Accounts that this node registers at once after a quiet time',
  },
  VALISE_STORAGE_LOW_BYTES: {
    schema: integer(0, Number.MAX_SAFE_INTEGER, 'bytes'),
    fallback: String(1024 * 1024 * 1024),
    meaning: 'Bytes of storage left below which nobody registers; 0: never',
  },
  VALISE_STORAGE_CRITICAL_BYTES: {
    schema: integer(0, Number.MAX_SAFE_INTEGER, 'bytes'),
    fallback: String(256 * 1024 * 1024),
    meaning:
      'Bytes of storage left below which nobody publishes; keep it above twice VALISE_INTAKE_BUFFER_BYTES and 64 MiB; 0: never',
  },
  VALISE_DATABASE_BYTES: {
    schema: integer(0, Number.MAX_SAFE_INTEGER, 'bytes'),
    fallback: '0',
    meaning: 'Bytes that the database may take; what is left of them is storage left; 0: nobody said',
  },
  VALISE_HANDSHAKES_PER_MIN: {
    schema: integer(0, 1_000_000, 'handshakes'),
    fallback: String(DEFAULT_LIMITS.handshakes_per_min),
    meaning: 'Handshakes a minute from one address before it is answered 429; 0: as many as it likes',
  },
  VALISE_HANDSHAKES_BURST: {
    schema: integer(1, 1_000_000, 'handshakes'),
    fallback: String(DEFAULT_LIMITS.handshakes_burst),
    meaning: 'Handshakes at once from an address that was quiet',
  },
  VALISE_MAILBOX_REQUESTS_PER_MIN: {
    schema: integer(0, 1_000_000, 'requests'),
    fallback: '120',
    meaning: 'Requests for mailboxes a minute from one address before it is answered 429; 0: as many as it likes',
  },
  VALISE_MAILBOX_REQUESTS_BURST: {
    schema: integer(1, 1_000_000, 'requests'),
    fallback: '120',
    meaning: 'Requests for mailboxes at once from an address that was quiet',
  },
  VALISE_SESSION_WORK_PERCENT: {
    schema: integer(0, 100, 'percent'),
    fallback: '3',
    meaning: "Of one core's time, what a session may use besides publishing; 0: not limited",
  },
  VALISE_USER_WORK_PERCENT: {
    schema: integer(0, 100, 'percent'),
    fallback: '6',
    meaning: 'The same of all sessions of a user on a node',
  },
  VALISE_ADDRESS_WORK_PERCENT: {
    schema: integer(0, 100, 'percent'),
    fallback: '20',
    meaning: 'The same of all sessions and requests of an address on a node',
  },
  VALISE_NODE_WORK_PERCENT: {
    schema: integer(0, 100, 'percent'),
    fallback: '50',
    meaning: 'The same of all sessions together; beyond it those wait that have asked for much of late',
  },
  VALISE_TRUSTED_PROXIES: {
    schema: proxies,
    fallback: undefined,
    meaning: 'Proxies whose X-Forwarded-For counts: addresses and networks, with commas between',
  },
  VALISE_HEAD_POLL_MS: {
    schema: integer(50, 600_000, 'milliseconds'),
    fallback: '5000',
    meaning:
      'How often the heads of connected users are compared with the log; at least every 600 ms while Redis is away',
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
  VALISE_AUDIT_RETENTION_DAYS: {
    schema: integer(1, 36_500, 'days'),
    fallback: '400',
    meaning: 'Days for which the audit log keeps its records',
  },
  OTEL_EXPORTER_OTLP_ENDPOINT: {
    schema: url(['http://', 'https://']).optional(),
    fallback: undefined,
    meaning: 'OpenTelemetry collector (HTTP) that gets traces; without it there are none',
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
  VALISE_MAX_DEVICE_LOG_ENTRIES: {
    schema: integer(1, 1_000_000, 'entries'),
    fallback: String(DEFAULT_LIMITS.max_device_log_entries),
    meaning:
      "Entries of a user's device log; beyond them it takes revocations, suspensions and cancels (110), what the recovery phrase signs (50 more), and the end of the account",
  },
  VALISE_USER_BYTES: {
    schema: integer(0, Number.MAX_SAFE_INTEGER, 'bytes').refine(
      (bytes) => bytes === 0 || bytes >= MIN_USER_BYTES,
      `expected 0 or at least ${MIN_USER_BYTES} bytes`,
    ),
    fallback: String(DEFAULT_LIMITS.max_user_bytes),
    meaning: 'Bytes of sealed events kept of a user, above which the oldest go; 0: as many as he likes',
  },
  VALISE_EVENT_RETENTION_DAYS: {
    schema: integer(0, 36_500, 'days'),
    fallback: '0',
    meaning: 'Days after which the bytes of an event go; 0: kept',
  },
  VALISE_RETENTION_INTERVAL_MS: {
    schema: integer(50, 3_600_000, 'milliseconds'),
    fallback: '5000',
    meaning: 'How often what users store is counted, and what is too old or too much begins to go',
  },
} as const

export type Variable = keyof typeof VARIABLES
