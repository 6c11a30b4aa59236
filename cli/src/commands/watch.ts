// `valise watch`: prints the payloads of a stream as they arrive from the other devices, and resumes where it stopped.
// A position is saved only after standard output has taken what comes before it.

import type { Client, LateEvent, ReceivedEvent, Resync } from '@valise/client'
import { formatTime, type NodeDevice } from '@valise/client/node'
import { decodeUtf8, encodeUtf8, formatUuid } from '@valise/protocol'
import { InvalidArgumentError, Option } from 'commander'
import { tellAddedDevices } from '../added-devices.ts'
import { tellConnection } from '../connection-notices.ts'
import { EXIT } from '../failure.ts'
import { tellHeld } from '../held-notices.ts'
import { withHome } from '../home.ts'
import { watchInterruption } from '../interruption.ts'
import type { AddCommand, Invocation } from '../invocation.ts'
import { payloadOf } from '../lines.ts'
import type { Output } from '../output.ts'
import { tellPending } from '../pending-notices.ts'
import { createPositionKeeper } from '../position-keeper.ts'
import { tellServerKey } from '../server-key.ts'
import { tellDisplaced } from '../storage-notices.ts'
import { parseStreamName } from '../stream-name.ts'
import { visibleJson } from '../visible.ts'

interface WatchOptions {
  readonly from: 'start' | 'cursor'
  readonly count: number
}

export const addWatch: AddCommand = (program, run) => {
  program
    .command('watch')
    .description('print what arrives in a stream from your other devices, until Ctrl-C')
    .argument('<stream>', 'name of the stream', parseStreamName)
    .addOption(
      new Option('--from <where>', 'from the first event, or from where the last watch stopped')
        .choices(['start', 'cursor'])
        .default('cursor'),
    )
    .option('--count <number>', 'end after so many events', parseCount, Number.POSITIVE_INFINITY)
    .action(
      run((invocation, streamName: string, options: WatchOptions) =>
        withHome(invocation.homeDir, (device) => watch(invocation, device, streamName, options)),
      ),
    )
}

async function watch(
  { output }: Invocation,
  device: NodeDevice,
  streamName: string,
  { from, count }: WatchOptions,
): Promise<number> {
  const signal = watchInterruption(output)
  const positionName = `watch ${streamName}`
  const saved = await device.position(positionName)
  const readBefore = await device.readBefore(positionName)
  const keeper = createPositionKeeper(saved, (userSeq) => device.setPosition(positionName, userSeq))
  const client = device.client()
  const stopListening = [
    tellConnection(client, output, () => 'Ctrl-C ends the watch.').close,
    tellVoided(client, output),
    tellAddedDevices(client, output),
    tellHeld(client, output),
    tellDisplaced(client, output),
    tellPending(client, output),
    tellServerKey(client, output),
    client.onResync((resync) => tellResync(output, resync)),
    client.onLate((events) => tellLate(output, streamName, events)),
  ]
  try {
    // Before the start: what the session to come is told, the listener tells.
    for (const resync of await client.resyncsAfter(from === 'start' ? 0 : saved)) tellResync(output, resync)
    tellLate(output, streamName, from === 'start' ? [] : await client.latePassedBy(saved))
    client.start()
    let printed = 0
    const options = from === 'start' ? { signal } : { after: saved, readBefore, signal }
    for await (const event of client.events(streamName, options)) {
      const bytes = output.isJson ? encodeUtf8(`${toJson(streamName, event)}\n`) : payloadOf(event.content)
      if (!(await output.write(bytes))) break
      keeper.note(event.userSeq)
      printed++
      if (printed >= count) break
    }
  } finally {
    for (const stop of stopListening) stop()
    await keeper.close()
    await client.close()
  }
  return EXIT.success
}

function tellResync(output: Output, { from, to }: Resync): void {
  output.notice('resync', `The server no longer keeps what stood in events ${from} to ${to}; it is left out.`, {
    from,
    to,
  })
}

/** A late event that stands after what was printed is printed in its turn; this one may have been passed. */
function tellLate(output: Output, streamName: string, events: readonly LateEvent[]): void {
  if (events.length === 0) return
  const places = events.map(({ userSeq }) => userSeq)
  const first = places.slice(0, MAX_NAMED).join(', ')
  const more = places.length > MAX_NAMED ? ` and ${places.length - MAX_NAMED} more` : ''
  output.notice(
    'late',
    `The server had passed over ${places.length} events and delivered them late: ${first}${more}. They stand before events that may have been printed already; \`valise watch ${streamName} --from start\` prints all of this stream in order.`,
    { user_seqs: places },
  )
}

/** Tells of what becomes void while it is watched: it may have been printed. */
function tellVoided(client: Client, output: Output): () => void {
  let isKnownBefore = true
  const stop = client.onVoided((events) => {
    if (isKnownBefore) return
    const places = events.map(({ userSeq }) => userSeq)
    const first = places.slice(0, MAX_NAMED).join(', ')
    const more = places.length > MAX_NAMED ? ` and ${places.length - MAX_NAMED} more` : ''
    output.notice(
      'voided',
      `A device was revoked; ${places.length} events that it sent after it was cut off count no more: ${first}${more}.`,
      { user_seqs: places },
    )
  })
  isKnownBefore = false
  return stop
}

/** Events whose places a notice names. */
const MAX_NAMED = 5

function toJson(streamName: string, event: ReceivedEvent): string {
  const { type, atMs, body } = event.content
  const text = decodeUtf8(body)
  return visibleJson({
    stream: streamName,
    user_seq: event.userSeq,
    stream_seq: event.streamSeq,
    device_id: formatUuid(event.deviceId),
    event_id: formatUuid(event.eventId),
    stored_at: formatTime(event.storedAtMs),
    at: formatTime(atMs),
    type,
    ...(text === undefined ? { base64: Buffer.from(body).toString('base64') } : { text }),
  })
}

function parseCount(text: string): number {
  const count = /^\d{1,15}$/.test(text) ? Number(text) : 0
  if (count < 1) throw new InvalidArgumentError('Expected a whole number of at least 1.')
  return count
}
