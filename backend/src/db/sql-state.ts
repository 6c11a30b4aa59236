// What an error of the database means to its caller, by SQLSTATE (PostgreSQL manual, appendix A).

function sqlStateOf(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined
  return typeof error.code === 'string' && /^[0-9A-Z]{5}$/.test(error.code) ? error.code : undefined
}

/** The database refuses the data itself (out of range, a constraint, too large): the same data fails again, other data may not. */
export function isRefusedData(error: unknown): boolean {
  const sqlState = sqlStateOf(error)
  return sqlState !== undefined && ['22', '23', '54'].includes(sqlState.slice(0, 2))
}

/** Texts of the driver for what it gave up itself: there is nothing else to tell them by. */
const TIMEOUT_TEXTS = [
  'Query read timeout',
  'timeout exceeded when trying to connect',
  'Connection terminated due to connection timeout',
]

/** `timeout`: given up by the server (statement_timeout, lock_timeout) or by the driver because its time was over. */
export function statusOfError(error: unknown): 'error' | 'timeout' {
  const sqlState = sqlStateOf(error)
  if (sqlState !== undefined) return sqlState === '57014' || sqlState === '55P03' ? 'timeout' : 'error'
  return error instanceof Error && TIMEOUT_TEXTS.includes(error.message) ? 'timeout' : 'error'
}

/** serialization_failure and deadlock_detected: the transaction was rolled back whole and may be run again. */
export function isRetryable(error: unknown): boolean {
  const sqlState = sqlStateOf(error)
  return sqlState === '40001' || sqlState === '40P01'
}

/**
 * True unless the server answered with an error that leaves the connection usable: no SQLSTATE at all (the network, a
 * time-out of ours), a lost connection (class 08), an end by the operator or a crash (57P), or by idling in a
 * transaction (25P03, 25P04), and a server that takes no writes (25006).
 */
export function isConnectionLost(error: unknown): boolean {
  const sqlState = sqlStateOf(error)
  return sqlState === undefined || /^(08|57P|25P0[34]|25006)/.test(sqlState)
}

/**
 * True when the error speaks of the whole server, so that other connections to it are suspect too: it takes no writes
 * any more, shuts down, has crashed, or the network broke.
 */
export function isServerChanged(error: unknown): boolean {
  const sqlState = sqlStateOf(error)
  if (sqlState !== undefined) return /^(08|57P0[123]|25006)/.test(sqlState)
  return error instanceof Error && !TIMEOUT_TEXTS.includes(error.message)
}

/** No connection of the pool became free in time: nothing was heard of the server. */
export const isPoolExhausted = (error: unknown): boolean =>
  error instanceof Error && error.message === 'timeout exceeded when trying to connect'
