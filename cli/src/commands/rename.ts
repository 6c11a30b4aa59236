// `valise rename`: gives this device another name, which its user's devices learn and nobody else.

import { EXIT } from '../failure.ts'
import { withHome } from '../home.ts'
import { watchInterruption } from '../interruption.ts'
import type { AddCommand } from '../invocation.ts'
import { printable } from '../visible.ts'

export const addRename: AddCommand = (program, run) => {
  program
    .command('rename')
    .description('give this device another name')
    .argument('<name>', 'sealed to your devices')
    .action(
      run(({ output, homeDir }, name: string) => {
        const signal = watchInterruption(output)
        return withHome(homeDir, async (device) => {
          const isTold = await device.rename(name, signal)
          const others = isTold ? '' : ' Your other devices learn it when the server is back.'
          output.result(`This device is "${printable(name)}" now.${others}`, { type: 'renamed', name, is_told: isTold })
          return EXIT.success
        })
      }),
    )
}
