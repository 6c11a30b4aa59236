// Examines a configuration and everything it names, one area after another; what is found comes as it is found.

import { describeConfig, parseConfig, type RawConfig } from '../config.ts'
import { publicRules } from '../http/origins.ts'
import { checkDatabase } from './check-database.ts'
import { checkFiles } from './check-files.ts'
import { checkMachine } from './check-machine.ts'
import { checkRedis } from './check-redis.ts'
import { checkServer } from './check-server.ts'
import { type Area, type Finding, findingsOf, messageOf } from './finding.ts'

export type { Finding } from './finding.ts'

export async function* examine(flags: RawConfig): AsyncGenerator<Finding> {
  const { ok, note, wrong } = findingsOf('configuration')
  const { variables, unknown } = describeConfig(flags)
  for (const { name, nearest } of unknown) {
    yield note(
      `${name} is no variable of Valise, and is not read`,
      nearest === undefined ? 'remove it; `valise config` lists those there are' : `did you mean ${nearest}?`,
    )
  }
  for (const { name, problem } of variables) {
    if (problem !== undefined) yield wrong(`${name} cannot be used: ${problem}`, 'set it in that form, or remove it')
  }
  if (variables.some(({ problem }) => problem !== undefined)) return
  const config = parseConfig(flags)
  yield ok('every variable has a value that can be used')
  const hasProxy = variables.some(({ name, value }) => name === 'VALISE_TRUSTED_PROXIES' && value !== undefined)
  if (
    hasProxy &&
    publicRules(config.host, config.origins).pages === 'local_and_listed' &&
    config.origins.length === 0
  ) {
    yield note(
      'a proxy is trusted, HOST is a loopback address and VALISE_ORIGINS is not set: requests that keep the Host of the proxy are refused',
      'list the address of the proxy as an origin, such as https://valise.example.org, or let it send the address of this node as Host',
    )
  }

  const areas: readonly [Area, () => Finding[] | Promise<Finding[]>][] = [
    ['machine', () => checkMachine(config)],
    ['files', () => checkFiles(config)],
    ['database', () => checkDatabase(config)],
    ['redis', () => checkRedis(config)],
    ['server', () => checkServer(config)],
  ]
  for (const [area, check] of areas) {
    try {
      yield* await check()
    } catch (error) {
      yield findingsOf(area).wrong(`this could not be examined: ${messageOf(error)}`, 'see the message')
    }
  }
}
