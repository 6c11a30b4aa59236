// `valise import FILE`: publishes the events of an export in this account. The file is checked whole before anything of it
// is published; an import that is interrupted goes on where it stopped.

import { setMaxListeners } from 'node:events'
import { checkExport, type NodeDevice } from '@valise/client/node'
import { equalBytes, formatUuid, toHex } from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { tellConnection } from '../connection-notices.ts'
import { tellDelays } from '../delay-notices.ts'
import { readLines } from '../export-file.ts'
import { EXIT, MisuseError } from '../failure.ts'
import { withHome } from '../home.ts'
import { watchInterruption } from '../interruption.ts'
import type { AddCommand, Invocation } from '../invocation.ts'
import { describeKept } from '../published.ts'

const AGAIN = 'The same command goes on from there.'

export const addImport: AddCommand = (program, run) => {
  program
    .command('import')
    .description('publish the events of an export here: same streams, order, types, times and bodies')
    .argument('<file>', 'file that `valise export` wrote')
    .action(
      run((invocation, file: string) => withHome(invocation.homeDir, (device) => importFrom(invocation, device, file))),
    )
}

async function importFrom({ output, prompt, stdin }: Invocation, device: NodeDevice, file: string): Promise<number> {
  if (file === '-') throw new MisuseError('bad_file', 'An import reads its file twice. Expected a file, not -.')
  const signal = watchInterruption(output)
  // Every publish that waits for room in the outbox listens to it; the import bounds them.
  setMaxListeners(0, signal)
  const summary = await checkExport(nodeCrypto, readLines(file, stdin))
  const account = device.account()
  if (account !== undefined && equalBytes(account.userId, summary.userId)) {
    const question =
      'The file is of this very account: what its streams still hold will stand in them twice. Import it?'
    if (!(await prompt.confirm(question, signal))) {
      output.notice('kept', 'Nothing was imported.')
      return EXIT.failure
    }
  }
  const client = device.client()
  let refusals = 0
  const stopListening = [
    tellConnection(client, output, () => `Ctrl-C ends the import. ${AGAIN}`).close,
    tellDelays(client, output),
    client.onRefused((refusal) => {
      refusals += 1
      output.failure(refusal.code, describeKept(refusal), { event_id: formatUuid(refusal.eventId) })
    }),
  ]
  try {
    client.start()
    const counts = await device.importLines(summary, readLines(file, stdin), signal)
    await client.flush(signal)
    const details = [
      counts.before > 0 ? `${counts.before} were imported before` : '',
      counts.expired > 0 ? `${counts.expired} have outlived their lifetime` : '',
      counts.unnamed > 0 ? `${counts.unnamed} went to streams named by their ids, as the file has no names` : '',
      counts.tooLarge > 0 ? `${counts.tooLarge} are LEFT OUT, for they are larger than this server takes` : '',
      refusals > 0 ? `${refusals} were refused, see above` : '',
    ].filter((detail) => detail !== '')
    output.result([`Imported ${counts.published} events.`, ...details.map((detail) => `  ${detail}`)].join('\n'), {
      type: 'imported',
      user_id: toHex(summary.userId),
      events: counts.published,
      before: counts.before,
      expired: counts.expired,
      unnamed: counts.unnamed,
      too_large: counts.tooLarge,
      refused: refusals,
    })
    return refusals + counts.tooLarge === 0 ? EXIT.success : EXIT.failure
  } catch (error) {
    if (!signal.aborted) throw error
    output.notice('interrupted', `Interrupted. What was read is kept and sent the next time. ${AGAIN}`)
    return EXIT.interrupted
  } finally {
    for (const stop of stopListening) stop()
    await client.close()
  }
}
