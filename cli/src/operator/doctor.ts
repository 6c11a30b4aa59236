// `valise doctor`: examines what a server started here would run on, and the one that runs already, and says in plain
// words what is wrong and how to mend it.

import type { Finding } from '@valise/backend'
import { EXIT } from '../failure.ts'
import type { AddCommand } from '../invocation.ts'
import { printable } from '../visible.ts'
import { addServerFlags, type ServerFlags, toRawConfig } from './server-flags.ts'

const MARKS = { ok: 'ok   ', note: 'note ', wrong: 'WRONG' } as const
const INDENT = ' '.repeat(9)

export const addDoctor: AddCommand = (program, run) => {
  const command = program
    .command('doctor')
    .description(
      'examine configuration, files, database, Redis and a running server; ends with 1 when something is wrong',
    )
  addServerFlags(command).action(
    run(async ({ output }, flags: ServerFlags) => {
      const { examine } = await import('@valise/backend')
      const countOf = { ok: 0, note: 0, wrong: 0 }
      let area: Finding['area'] | undefined
      for await (const finding of examine(toRawConfig(flags))) {
        countOf[finding.status] += 1
        const heading = finding.area === area ? '' : `${area === undefined ? '' : '\n'}${finding.area}\n`
        area = finding.area
        output.result(`${heading}${describe(finding)}`, { type: 'finding', ...finding })
      }
      const isFine = countOf.wrong === 0
      const notes = countOf.note === 0 ? '' : `, ${countOf.note} worth knowing`
      const verdict = isFine ? `\nNothing is wrong${notes}.` : `\n${countOf.wrong} wrong${notes}.`
      output.result(verdict, { type: 'verdict', is_fine: isFine, ...countOf })
      return isFine ? EXIT.success : EXIT.failure
    }),
  )
}

function describe(finding: Finding): string {
  const text = `  ${MARKS[finding.status]}  ${printable(finding.text)}`
  return finding.status === 'ok' ? text : `${text}\n${INDENT}→ ${printable(finding.remedy)}`
}
