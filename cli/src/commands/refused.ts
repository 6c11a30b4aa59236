// `valise refused`: what the server refused for good, whose content this device keeps until it is published again or
// discarded.

import { type Client, ClientStoppedError, type RefusedEvent } from '@valise/client'
import { formatTime, type NodeDevice } from '@valise/client/node'
import { type EventId, formatUuid } from '@valise/protocol'
import { tellConnection } from '../connection-notices.ts'
import { tellDelays } from '../delay-notices.ts'
import { EXIT, MisuseError } from '../failure.ts'
import { withHome } from '../home.ts'
import { watchInterruption } from '../interruption.ts'
import type { AddCommand, Invocation } from '../invocation.ts'
import { describeKept, printReceipt } from '../published.ts'
import { printable } from '../visible.ts'

const ALL = 'all'
const IDS = ['<id...>', `ids as \`valise refused list\` shows them, or ${ALL}`] as const

export const addRefused: AddCommand = (program, run) => {
  const refused = program.command('refused').description('what the server refused, kept here until you decide')
  refused
    .command('list')
    .description('list it, oldest first')
    .action(run(({ output, homeDir }) => withHome(homeDir, (device) => list(output, device))))
  refused
    .command('retry')
    .description('publish it again, as new events')
    .argument(...IDS)
    .action(
      run((invocation, ids: readonly string[]) =>
        withHome(invocation.homeDir, (device) => retry(invocation, device, ids)),
      ),
    )
  refused
    .command('discard')
    .description('erase it from this device; it cannot be brought back')
    .argument(...IDS)
    .action(
      run((invocation, ids: readonly string[]) => {
        invocation.prompt.requireSomeone()
        return withHome(invocation.homeDir, (device) => discard(invocation, device, ids))
      }),
    )
}

async function list(output: Invocation['output'], device: NodeDevice): Promise<number> {
  const events = await device.client().refused.list()
  for (const event of events) output.result(describe(event), toFields(event))
  if (events.length === 0) output.notice('nothing_refused', 'Nothing that the server refused is kept here.')
  return EXIT.success
}

const describe = ({ eventId, streamName, refusedAtMs, size, code, text }: RefusedEvent): string =>
  [formatUuid(eventId), printable(streamName), formatTime(refusedAtMs), `${size} bytes`, code, text].join('  ')

const toFields = (event: RefusedEvent) => ({
  event_id: formatUuid(event.eventId),
  stream: event.streamName,
  refused_at: formatTime(event.refusedAtMs),
  size: event.size,
  code: event.code,
  text: event.text,
  type: event.type,
  at: formatTime(event.atMs),
  ttl_s: event.ttlS,
})

/** Throws a MisuseError for an id under which nothing is kept. */
async function pick(client: Client, ids: readonly string[]): Promise<RefusedEvent[]> {
  const kept = await client.refused.list()
  if (ids.includes(ALL)) return kept
  return [...new Set(ids)].map((id) => {
    const event = kept.find(({ eventId }) => formatUuid(eventId) === id.toLowerCase())
    if (event !== undefined) return event
    throw new MisuseError(
      'unknown_event',
      `Nothing refused is kept under ${printable(id)}. Expected an id of \`valise refused list\`, or ${ALL}.`,
    )
  })
}

async function retry({ output }: Invocation, device: NodeDevice, ids: readonly string[]): Promise<number> {
  const signal = watchInterruption(output)
  const client = device.client()
  const events = await pick(client, ids)
  let refusals = 0
  const connection = tellConnection(client, output, () => 'What is queued is kept; Ctrl-C ends the waiting.')
  const stopListening = [
    connection.close,
    tellDelays(client, output),
    client.onReceipt((receipt) => printReceipt(output, receipt)),
    client.onRefused((refusal) => {
      refusals += 1
      output.failure(refusal.code, describeKept(refusal), { event_id: formatUuid(refusal.eventId) })
    }),
  ]
  try {
    // First: whether the server takes the content is known once it has said its limits.
    client.start()
    await client.whenReady(signal)
    for (const { eventId, streamName } of events) await retryOne(client, eventId, { output, streamName })
    await client.flush(signal)
  } catch (error) {
    const state = client.state()
    if (state.type === 'stopped' && state.cause.type !== 'closed') throw new ClientStoppedError(state.cause)
    if (!signal.aborted) throw error
    output.notice('interrupted', 'Interrupted. What was queued is sent the next time; the rest is still kept.')
    return EXIT.interrupted
  } finally {
    for (const stop of stopListening) stop()
    await client.close()
  }
  return refusals === 0 ? EXIT.success : EXIT.failure
}

async function retryOne(
  client: Client,
  refusedId: EventId,
  { output, streamName }: { readonly output: Invocation['output']; readonly streamName: string },
): Promise<void> {
  const again = await client.refused.retry(refusedId)
  if (again === undefined) return
  const fields = { event_id: formatUuid(again.eventId), refused_event_id: formatUuid(refusedId), stream: streamName }
  output.notice('queued', `Event ${fields.refused_event_id} is published again as ${fields.event_id}.`, fields)
}

async function discard({ output, prompt }: Invocation, device: NodeDevice, ids: readonly string[]): Promise<number> {
  const signal = watchInterruption(output)
  const client = device.client()
  const events = await pick(client, ids)
  if (events.length === 0) {
    output.notice('nothing_refused', 'Nothing that the server refused is kept here.')
    return EXIT.success
  }
  const question = `Erase the content of ${events.length} refused events for good?`
  if (!(await prompt.confirm(question, signal))) {
    output.failure('declined', 'Declined. Everything is still kept.')
    return EXIT.failure
  }
  for (const { eventId } of events) {
    if (!(await client.refused.discard(eventId))) continue
    const id = formatUuid(eventId)
    output.result(`discarded ${id}`, { type: 'discarded', event_id: id })
  }
  return EXIT.success
}
