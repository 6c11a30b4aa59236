// The only reader of the environment: flags over environment over defaults, parsed once. A bad value stops the start
// with the variable's name and the form it wants. The variables stand in config-variables.ts.

import { homedir } from 'node:os'
import { join } from 'node:path'
import { DEFAULT_LIMITS, type Limits } from '@valise/protocol'
import type { z } from 'zod'
import { findUnknownVariables, reportVariables, type UnknownVariable, type VariableReport } from './config-report.ts'
import { VARIABLES, type Variable } from './config-variables.ts'
import type { RegistrationMode } from './devices/registration.ts'
import { formatHost } from './http/listen.ts'
import type { TrustedProxies } from './limits/client-address.ts'
import type { RateLimitRules } from './limits/rate-limits.ts'
import type { RegistrationRules } from './limits/registration-limits.ts'
import type { StorageMarks } from './limits/storage-level.ts'
import { nodeWorkRule, type WorkRules, workRule } from './limits/work-budgets.ts'
import type { RetentionRules } from './log/retention.ts'

export interface StorageRules {
  readonly marks: StorageMarks
  /** What the database may take; undefined: nobody said. */
  readonly maxDatabaseBytes: number | undefined
}

/** Raw values by variable: those of the environment, those of flags. */
export type RawConfig = Readonly<Partial<Record<Variable, string>>>

export interface Config {
  readonly host: string
  readonly port: number
  /** Normalised as browsers write them; empty: none is set. */
  readonly origins: readonly string[]
  readonly adminHost: string
  readonly adminPort: number
  /** Lower case. */
  readonly adminNames: readonly string[]
  /** Undefined: the embedded database. */
  readonly databaseUrl: string | undefined
  /** Undefined: the bus inside the process. */
  readonly redisUrl: string | undefined
  readonly dataDir: string
  readonly identityFile: string
  readonly registration: RegistrationMode
  readonly logLevel: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent'
  readonly logFormat: 'auto' | 'json' | 'pretty'
  readonly rotateAfterMs: number
  readonly rotateAfterEvents: number
  readonly slowQueryMs: number
  readonly poolSize: number
  readonly handshakeTimeoutMs: number
  readonly registrationTimeoutMs: number
  readonly maxConnections: number
  readonly maxConnectionsPerAddress: number
  readonly maxHttpConnectionsPerAddress: number
  readonly maxHttpConnections: number
  readonly sendBufferBytes: number
  readonly intakeBufferBytes: number
  readonly slowConsumerMs: number
  readonly pingIntervalMs: number
  readonly work: WorkRules
  readonly rateLimits: RateLimitRules
  readonly registrationRules: RegistrationRules
  readonly storage: StorageRules
  readonly trustedProxies: TrustedProxies
  readonly headPollMs: number
  readonly drainMs: number
  readonly presenceLeaseMs: number
  readonly auditRetentionDays: number
  readonly retention: RetentionRules
  /** Undefined: no traces. */
  readonly otlpEndpoint: string | undefined
  readonly limits: Limits
  /** Of the environment: they look like ours, and mean nothing. */
  readonly unknownVariables: readonly UnknownVariable[]
}

/** A configuration that cannot be used; `message` names the variable and the form it wants, never the value. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

export const variableMeanings = (): ReadonlyMap<Variable, { fallback: string | undefined; meaning: string }> =>
  new Map(Object.entries(VARIABLES).map(([name, { fallback, meaning }]) => [name as Variable, { fallback, meaning }]))

const DAY_MS = 86_400_000

/** Throws a ConfigError. An empty variable counts as absent. */
export function parseConfig(
  flags: RawConfig,
  environment: Readonly<Record<string, string | undefined>> = process.env,
  homeFolder: () => string = homedir,
): Config {
  const read = <Name extends Variable>(name: Name, fallback: string | undefined = VARIABLES[name].fallback) => {
    const raw = flags[name] || environment[name] || fallback
    const parsed = VARIABLES[name].schema.safeParse(raw)
    if (!parsed.success) throw new ConfigError(`${name}: ${parsed.error.issues[0]?.message ?? 'not valid'}`)
    return parsed.data as z.infer<(typeof VARIABLES)[Name]['schema']>
  }
  const rule = (perSecond: number, burst: number) => (perSecond === 0 ? undefined : { perSecond, burst })
  const limits: Limits = {
    ...DEFAULT_LIMITS,
    max_payload: read('VALISE_MAX_PAYLOAD_BYTES'),
    max_devices: read('VALISE_MAX_DEVICES'),
    max_streams: read('VALISE_MAX_STREAMS'),
    max_device_log_entries: read('VALISE_MAX_DEVICE_LOG_ENTRIES'),
    max_user_bytes: read('VALISE_USER_BYTES'),
    send_buffer_bytes: read('VALISE_SEND_BUFFER_BYTES'),
    device_events_per_s: read('VALISE_DEVICE_EVENTS_PER_S'),
    device_events_burst: read('VALISE_DEVICE_EVENTS_BURST'),
    user_events_per_s: read('VALISE_USER_EVENTS_PER_S'),
    user_events_burst: read('VALISE_USER_EVENTS_BURST'),
    device_bytes_per_s: read('VALISE_DEVICE_BYTES_PER_S'),
    device_bytes_burst: read('VALISE_DEVICE_BYTES_BURST'),
    user_bytes_per_s: read('VALISE_USER_BYTES_PER_S'),
    user_bytes_burst: read('VALISE_USER_BYTES_BURST'),
    handshakes_per_min: read('VALISE_HANDSHAKES_PER_MIN'),
    handshakes_burst: read('VALISE_HANDSHAKES_BURST'),
    handshake_timeout_ms: read('VALISE_HANDSHAKE_TIMEOUT_MS'),
  }
  const dataDir = read('VALISE_DATA_DIR') ?? defaultDataDir(homeFolder)
  return {
    host: read('HOST'),
    port: read('PORT'),
    origins: read('VALISE_ORIGINS'),
    adminHost: read('ADMIN_HOST'),
    adminPort: read('ADMIN_PORT'),
    adminNames: read('VALISE_ADMIN_NAMES'),
    databaseUrl: read('DATABASE_URL'),
    redisUrl: read('REDIS_URL'),
    dataDir,
    identityFile: read('VALISE_IDENTITY_FILE') ?? join(dataDir, 'identity.key'),
    registration: read('VALISE_REGISTRATION'),
    logLevel: read('VALISE_LOG_LEVEL'),
    logFormat: read('VALISE_LOG_FORMAT'),
    rotateAfterMs: read('VALISE_SESSION_ROTATE_AFTER_MS'),
    rotateAfterEvents: read('VALISE_SESSION_ROTATE_AFTER_EVENTS'),
    slowQueryMs: read('VALISE_SLOW_QUERY_MS'),
    poolSize: read('VALISE_POOL_SIZE'),
    handshakeTimeoutMs: limits.handshake_timeout_ms,
    registrationTimeoutMs: read('VALISE_REGISTRATION_TIMEOUT_MS'),
    maxConnections: read('VALISE_MAX_CONNECTIONS'),
    maxConnectionsPerAddress: read('VALISE_MAX_CONNECTIONS_PER_ADDRESS'),
    maxHttpConnectionsPerAddress: read('VALISE_MAX_HTTP_CONNECTIONS_PER_ADDRESS'),
    maxHttpConnections: read('VALISE_MAX_HTTP_CONNECTIONS'),
    sendBufferBytes: limits.send_buffer_bytes,
    intakeBufferBytes: read('VALISE_INTAKE_BUFFER_BYTES'),
    slowConsumerMs: read('VALISE_SLOW_CONSUMER_MS'),
    pingIntervalMs: read('VALISE_PING_INTERVAL_MS'),
    rateLimits: {
      device: rule(limits.device_events_per_s, limits.device_events_burst),
      user: rule(limits.user_events_per_s, limits.user_events_burst),
      deviceBytes: rule(limits.device_bytes_per_s, limits.device_bytes_burst),
      userBytes: rule(limits.user_bytes_per_s, limits.user_bytes_burst),
      deviceAppends: rule(read('VALISE_DEVICE_APPENDS_PER_MIN') / 60, read('VALISE_DEVICE_APPENDS_BURST')),
      userAppends: rule(read('VALISE_USER_APPENDS_PER_MIN') / 60, read('VALISE_USER_APPENDS_BURST')),
      address: rule(limits.handshakes_per_min / 60, limits.handshakes_burst),
      mailbox: rule(read('VALISE_MAILBOX_REQUESTS_PER_MIN') / 60, read('VALISE_MAILBOX_REQUESTS_BURST')),
    },
    work: {
      session: workRule(read('VALISE_SESSION_WORK_PERCENT')),
      user: workRule(read('VALISE_USER_WORK_PERCENT')),
      address: workRule(read('VALISE_ADDRESS_WORK_PERCENT')),
      node: nodeWorkRule(read('VALISE_NODE_WORK_PERCENT')),
    },
    registrationRules: {
      address: rule(read('VALISE_REGISTRATIONS_PER_HOUR') / 3600, read('VALISE_REGISTRATIONS_BURST')),
      node: rule(read('VALISE_NODE_REGISTRATIONS_PER_MIN') / 60, read('VALISE_NODE_REGISTRATIONS_BURST')),
    },
    storage: {
      marks: { lowBytes: read('VALISE_STORAGE_LOW_BYTES'), criticalBytes: read('VALISE_STORAGE_CRITICAL_BYTES') },
      maxDatabaseBytes: read('VALISE_DATABASE_BYTES') || undefined,
    },
    trustedProxies: read('VALISE_TRUSTED_PROXIES'),
    headPollMs: read('VALISE_HEAD_POLL_MS'),
    drainMs: read('VALISE_DRAIN_MS'),
    presenceLeaseMs: read('VALISE_PRESENCE_LEASE_MS'),
    auditRetentionDays: read('VALISE_AUDIT_RETENTION_DAYS'),
    retention: {
      maxUserBytes: limits.max_user_bytes || undefined,
      maxAgeMs: read('VALISE_EVENT_RETENTION_DAYS') * DAY_MS || undefined,
      intervalMs: read('VALISE_RETENTION_INTERVAL_MS'),
    },
    limits,
    otlpEndpoint: read('OTEL_EXPORTER_OTLP_ENDPOINT'),
    unknownVariables: findUnknownVariables(environment),
  }
}

/** A user without an entry in the system's list of users has no home folder that could be asked for. */
function defaultDataDir(homeFolder: () => string): string {
  try {
    return join(homeFolder(), '.valise-server')
  } catch {
    throw new ConfigError('VALISE_DATA_DIR: this user has no home folder; name a folder here, or with --data')
  }
}

export interface ConfigReport {
  readonly variables: readonly VariableReport[]
  readonly unknown: readonly UnknownVariable[]
}

/** For people: everything with its source and meaning, secrets masked. Never throws. */
export const describeConfig = (
  flags: RawConfig,
  environment: Readonly<Record<string, string | undefined>> = process.env,
): ConfigReport => ({
  variables: reportVariables(flags, environment),
  unknown: findUnknownVariables(environment),
})

/** Where the admin port is asked from this machine. */
export function adminUrlOf({ adminHost, adminPort }: Pick<Config, 'adminHost' | 'adminPort'>): string {
  const reachable: Readonly<Record<string, string>> = { '0.0.0.0': '127.0.0.1', '::': '::1' }
  return `http://${formatHost(reachable[adminHost] ?? adminHost)}:${adminPort}`
}
