// `valise republish`: accepts the log that the server has after a backup was put back, and publishes again what it lost.

import type { NodeDevice } from '@valise/client/node'
import { tellConnection } from '../connection-notices.ts'
import { tellDelays } from '../delay-notices.ts'
import { EXIT } from '../failure.ts'
import { withHome } from '../home.ts'
import { watchInterruption } from '../interruption.ts'
import type { AddCommand, Invocation } from '../invocation.ts'

const QUESTION =
  'Has the operator confirmed that a backup was restored, and shall this device go on with the log that the server has now?'

export const addRepublish: AddCommand = (program, run) => {
  program
    .command('republish')
    .description("go on with a server's log that went backwards, and publish again what the server lost")
    .action(
      run((invocation) => {
        invocation.prompt.requireSomeone()
        return withHome(invocation.homeDir, (device) => republish(invocation, device))
      }),
    )
}

async function republish({ output, prompt }: Invocation, device: NodeDevice): Promise<number> {
  const signal = watchInterruption(output)
  if (!(await prompt.confirm(QUESTION, signal))) {
    output.failure('declined', 'Declined. Nothing was changed.')
    return EXIT.failure
  }
  const { through, ownEvents, otherEvents } = await device.acceptLog(signal)
  output.notice(
    'log_accepted',
    `This device and the server agree up to event ${through}; ${ownEvents} of its own later events are sent again.`,
    { through, own_events: ownEvents, other_events: otherEvents },
  )
  const client = device.client()
  const connection = tellConnection(client, output, () => 'What is to be sent is kept.')
  const stopTelling = tellDelays(client, output)
  // Events behind it had never been sent.
  const { lastDeviceSeq } = await device.status()
  let again = 0
  let waited = 0
  const stopCounting = client.onReceipt(({ isDuplicate, deviceSeq }) => {
    if (isDuplicate) return
    if (deviceSeq <= lastDeviceSeq) again++
    else waited++
  })
  try {
    client.start()
    await client.whenLive(signal)
    await client.flush(signal)
  } finally {
    stopCounting()
    stopTelling()
    connection.close()
    await client.close()
  }
  const { missingEvents } = await device.status()
  const text = [
    `Published again: ${again} events that the server had lost.`,
    ...(waited === 0 ? [] : [`Published: ${waited} events that waited for it.`]),
    ...(missingEvents === 0
      ? []
      : [`Of your other devices ${missingEvents} are still missing: run \`valise republish\` on each of them.`]),
  ]
  output.result(text.join('\n'), { type: 'republished', through, stored: again, waited, missing: missingEvents })
  return EXIT.success
}
