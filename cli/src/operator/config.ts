// `valise config`: what a server started here would be told, variable by variable, with secrets masked.

import { EXIT } from '../failure.ts'
import type { AddCommand } from '../invocation.ts'
import { printable } from '../visible.ts'
import { addServerFlags, type ServerFlags, toRawConfig } from './server-flags.ts'

export const addConfig: AddCommand = (program, run) => {
  const command = program
    .command('config')
    .description('show the configuration as a server started here would have it: values, sources, meanings')
  addServerFlags(command).action(
    run(async ({ output }, flags: ServerFlags) => {
      const { describeConfig } = await import('@valise/backend')
      const { variables, unknown } = describeConfig(toRawConfig(flags))
      const nameWidth = Math.max(...variables.map(({ name }) => name.length))
      const valueWidth = Math.max(...variables.map(({ value = '' }) => value.length))
      for (const { name, value, source, meaning, problem } of variables) {
        const shown = printable(value ?? '').padEnd(valueWidth)
        output.result(`${name.padEnd(nameWidth)}  ${shown}  ${source.padEnd('environment'.length)}  ${meaning}`, {
          type: 'variable',
          name,
          value: value ?? null,
          source,
          meaning,
          problem: problem ?? null,
        })
      }
      for (const { name, nearest } of unknown) {
        const hint = nearest === undefined ? '' : ` Did you mean ${nearest}?`
        output.notice('unknown_variable', `${name} is no variable of Valise, and is not read.${hint}`, {
          name,
          nearest: nearest ?? null,
        })
      }
      const unusable = variables.filter(({ problem }) => problem !== undefined)
      for (const { name, problem } of unusable) output.failure('bad_variable', `${name}: ${problem}`, { name })
      return unusable.length === 0 ? EXIT.success : EXIT.misuse
    }),
  )
}
