// `valise rotate`: starts a new key epoch by hand; a manager's client does it every 30 days by itself.

import { EXIT } from '../failure.ts'
import { withHome } from '../home.ts'
import { watchInterruption } from '../interruption.ts'
import type { AddCommand } from '../invocation.ts'

export const addRotate: AddCommand = (program, run) => {
  program
    .command('rotate')
    .description('change the content keys now; a manager does it every 30 days by itself')
    .action(
      run(({ output, homeDir }) => {
        const signal = watchInterruption(output)
        return withHome(homeDir, async (device) => {
          const epoch = await device.rotate(signal)
          output.result(`Key epoch ${epoch} has begun.`, { type: 'rotated', epoch })
          return EXIT.success
        })
      }),
    )
}
