// `valise admin audit`: what the server has on record for its security, and whether the record holds.

import { formatTime } from '@valise/client/node'
import { type Command, InvalidArgumentError } from 'commander'
import { EXIT } from '../failure.ts'
import type { Run } from '../invocation.ts'
import type { Output } from '../output.ts'
import { addDatabaseOptions, type DatabaseOptions, readConfig } from './database-options.ts'

interface AuditOptions extends DatabaseOptions {
  readonly limit: number
  readonly verify?: boolean
}

const DEFAULT_LIMIT = 100

export function addAudit(admin: Command, run: Run): void {
  const command = admin
    .command('audit')
    .description('show the newest records of the audit log, or check that all of it holds')
    .option('--limit <number>', 'how many of the newest', parseLimit, DEFAULT_LIMIT)
    .option('--verify', "check every record of every chain instead, and print the head of the server's own")
  addDatabaseOptions(command).action(
    run(async ({ output }, { limit, verify, ...database }: AuditOptions) => {
      const config = await readConfig(database)
      return verify === true ? verifyAll(output, config) : showNewest(output, config, limit)
    }),
  )
}

type Config = Awaited<ReturnType<typeof readConfig>>

async function showNewest(output: Output, config: Config, limit: number): Promise<number> {
  const { auditCommand, MAX_AUDIT_RECORDS, operate } = await import('@valise/backend')
  const { records } = await operate(config, auditCommand, { limit: Math.min(limit, MAX_AUDIT_RECORDS) })
  for (const { atMs, user, seq, kind, detail, hash } of records) {
    const facts = Object.entries(detail).map(([name, value]) => `${name}=${value}`)
    const line = [formatTime(atMs), kind.padEnd(18), user === null ? 'server'.padEnd(16) : user, `#${seq}`, ...facts]
    output.result(line.join('  '), { type: 'audit_record', at: formatTime(atMs), user, seq, kind, detail, hash })
  }
  if (records.length === 0) output.notice('audit_empty', 'The audit log has no records.')
  return EXIT.success
}

async function verifyAll(output: Output, config: Config): Promise<number> {
  const { auditVerifyCommand, operate } = await import('@valise/backend')
  const { chains, records, head, faultyChains, faults } = await operate(config, auditVerifyCommand, {})
  for (const { user, seq, type } of faults) {
    const whose = user === null ? "the server's chain" : `the chain of user ${user}`
    output.failure('audit_fault', `Record ${seq} of ${whose} does not hold (${type}).`, { user, seq, fault: type })
  }
  const verdict = faultyChains === 0 ? 'All of it holds.' : `${faultyChains} chains do not hold.`
  const lines = [`${records} records in ${chains} chains. ${verdict}`]
  if (head !== null) {
    lines.push(`Head of the server's chain: #${head.seq} ${head.hash}`)
    lines.push('Keep it elsewhere: a chain that is cut off after it shows by it, and by nothing else.')
  }
  output.result(lines.join('\n'), { type: 'audit_verified', holds: faultyChains === 0, chains, records, head })
  return faultyChains === 0 ? EXIT.success : EXIT.failure
}

function parseLimit(text: string): number {
  const limit = /^\d{1,9}$/.test(text) ? Number(text) : 0
  if (limit < 1) throw new InvalidArgumentError('Expected a whole number of at least 1.')
  return limit
}
