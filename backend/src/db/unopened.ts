// Why PostgreSQL could not be opened, and what to do, in plain words and without a secret: for whoever starts a server,
// and for the doctor.

import { DatabaseRefusedError } from './startup-checks.ts'

export interface Unopened {
  readonly text: string
  readonly remedy: string
}

const REACH_REMEDY = 'see that PostgreSQL runs there, and that host and port of DATABASE_URL are right'

/** By codes of sockets and of PostgreSQL. */
const REASONS: Readonly<Record<string, Unopened>> = {
  ECONNREFUSED: { text: 'nothing listens at the address of DATABASE_URL', remedy: REACH_REMEDY },
  ENOTFOUND: { text: 'the host of DATABASE_URL is not known', remedy: REACH_REMEDY },
  ETIMEDOUT: { text: 'the host of DATABASE_URL does not answer', remedy: REACH_REMEDY },
  '28P01': { text: 'PostgreSQL refuses the password', remedy: 'set the right user and password in DATABASE_URL' },
  '28000': { text: 'PostgreSQL lets this user not in from here', remedy: 'add a line for it to pg_hba.conf' },
  '3D000': {
    text: 'the database does not exist',
    remedy: 'create it: createdb with the name that DATABASE_URL ends with',
  },
  '25006': {
    text: 'PostgreSQL takes no writes there: it is a standby, or default_transaction_read_only is on',
    remedy: 'name the primary in DATABASE_URL, or all hosts of the cluster with commas between them',
  },
  '53300': {
    text: 'PostgreSQL has no connection left',
    remedy: 'raise max_connections, or lower VALISE_POOL_SIZE of the nodes',
  },
}

/** `undefined` for what is no matter of reaching PostgreSQL, or none that has a name here. */
export function describeUnopened(error: unknown): Unopened | undefined {
  if (error instanceof DatabaseRefusedError) {
    return {
      text: error.message,
      remedy: 'the server refuses to start on such a database; mend the setting first',
    }
  }
  return error instanceof Error && 'code' in error ? REASONS[String(error.code)] : undefined
}

export const describeUnreachable = (message: string): Unopened => ({
  text: `PostgreSQL cannot be reached: ${message}`,
  remedy: REACH_REMEDY,
})
