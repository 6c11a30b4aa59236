// Why a server did not start, in words for whoever typed the command: which port, which folder, which database, and
// what to give instead.

import { type Config, ConfigError } from './config.ts'
import { DatabaseRefusedError } from './db/startup-checks.ts'
import { describeUnopened } from './db/unopened.ts'

interface SystemError extends Error {
  readonly code: string
  readonly syscall: string
  readonly path?: string
  readonly address?: string
  readonly port?: number
  readonly hostname?: string
}

const isSystemError = (error: unknown): error is SystemError =>
  error instanceof Error && 'code' in error && 'syscall' in error

/** `config` is what the start was tried with; undefined when that itself was wrong. */
export function describeUnstarted(error: unknown, config: Config | undefined): string {
  if (!(error instanceof Error)) return 'unknown error'
  if (config === undefined || error instanceof ConfigError || error instanceof DatabaseRefusedError) {
    return error.message
  }
  if (isSystemError(error)) {
    if (error.syscall === 'listen') return describePort(error, config)
    if (error.hostname === config.host) return describeName('HOST', config.host)
    if (error.hostname === config.adminHost) return describeName('ADMIN_HOST', config.adminHost)
    if (error.path !== undefined) return describeFolder(error)
  }
  const unopened = describeUnopened(error)
  return unopened === undefined ? error.message : `${unopened.text}; ${unopened.remedy}`
}

const describeName = (variable: string, host: string): string =>
  `${variable} is ${host}, which is no name or address of this machine; set it to one (127.0.0.1, or 0.0.0.0 for all), or unset it`

function describePort({ code, address, port, message }: SystemError, config: Config): string {
  const { adminPort, adminHost, host } = config
  if (code === 'EADDRINUSE' && config.port === adminPort && host === adminHost) {
    return `--port and --admin-port are both ${adminPort}; each wants one of its own`
  }
  const isAdmin = port === adminPort && address === adminHost
  const [flag, hostName] = isAdmin ? ['--admin-port', 'ADMIN_HOST'] : ['--port', 'HOST']
  switch (code) {
    case 'EADDRINUSE':
      return `port ${port} of ${address} is in use by another program; choose another with ${flag}`
    case 'EACCES':
      return `this user may not listen on port ${port}; choose one above 1023 with ${flag}`
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return `${isAdmin ? adminHost : host} is no address of this machine; choose one with ${hostName}`
    default:
      return message
  }
}

function describeFolder({ code, path }: SystemError): string {
  return `${path} cannot be used (${code}); expected a folder that this user may write: choose one with --data`
}
