// `valise send`: publishes standard input line by line, or a file as one event, and prints a receipt for each. Holds a
// bounded part of the input at a time; what was read is durable, and what has no receipt yet is sent the next time.

import { setMaxListeners } from 'node:events'
import { readFile, stat } from 'node:fs/promises'
import { addAbortSignal } from 'node:stream'
import { type Client, ClientStoppedError } from '@valise/client'
import type { NodeDevice } from '@valise/client/node'
import { DEFAULT_LIMITS, formatUuid, MAX_TTL_S } from '@valise/protocol'
import { InvalidArgumentError } from 'commander'
import { tellAddedDevices } from '../added-devices.ts'
import { tellConnection } from '../connection-notices.ts'
import { tellDelays } from '../delay-notices.ts'
import { parseDurationMs } from '../duration.ts'
import { EXIT, MisuseError } from '../failure.ts'
import { tellHeld } from '../held-notices.ts'
import { withHome } from '../home.ts'
import { watchInterruption } from '../interruption.ts'
import type { AddCommand, Invocation } from '../invocation.ts'
import { cutLines, type Piece } from '../lines.ts'
import type { JsonFields, Output } from '../output.ts'
import { tellPending } from '../pending-notices.ts'
import { createPublishWindow, type PublishWindow } from '../publish-window.ts'
import { describeKept, printReceipt } from '../published.ts'
import { tellServerKey } from '../server-key.ts'
import { tellDisplaced } from '../storage-notices.ts'
import { parseStreamName } from '../stream-name.ts'

/** Left for what stands around the body inside an event: its type and time. */
const CONTENT_OVERHEAD_BYTES = 128
const MAX_BODY_BYTES = DEFAULT_LIMITS.max_payload - CONTENT_OVERHEAD_BYTES

const INPUT_KEPT =
  'The input has ended and is kept: Ctrl-C ends the waiting, and what has no receipt is sent the next time.'
/** Time for what was read before an interruption to reach the disk. */
const SETTLE_MS = 1000

interface SendOptions {
  readonly file?: string
  /** Seconds; 0: none. */
  readonly ttl: number
}

export const addSend: AddCommand = (program, run) => {
  program
    .command('send')
    .description('publish each line of standard input as an event')
    .argument('<stream>', 'name of the stream', parseStreamName)
    .option('--file <file>', 'publish this file, whole, as one event instead')
    .option(
      '--ttl <time>',
      'how long the server keeps each event, and delivers it: 30s, 10m, 12h, 7d (default: no end)',
      parseLifetime,
      0,
    )
    .action(
      run(async (invocation, streamName: string, { file, ttl }: SendOptions) => {
        const whole = file === undefined ? undefined : await readWhole(file)
        return withHome(invocation.homeDir, (device) => send(invocation, device, { streamName, ttlS: ttl, whole }))
      }),
    )
}

async function send(
  { output, stdin, homeDir }: Invocation,
  device: NodeDevice,
  { streamName, ttlS, whole }: { streamName: string; ttlS: number; whole: Piece | undefined },
): Promise<number> {
  const interrupted = watchInterruption(output)
  const client = device.client()
  const stopped = new AbortController()
  const signal = AbortSignal.any([interrupted, stopped.signal])
  const gaveUp = new AbortController()
  // Every publish that waits for room in the outbox listens to it; the window bounds them.
  setMaxListeners(0, gaveUp.signal)
  // What was read is on its way to the disk, and arrives there at once unless the outbox is full.
  interrupted.addEventListener('abort', () => setTimeout(() => gaveUp.abort(), SETTLE_MS), { once: true })
  let isInputKept = false
  let refusals = 0
  const tellRefused = (code: string, text: string, fields: JsonFields): void => {
    refusals++
    output.failure(code, text, fields)
  }
  const connection = tellConnection(client, output, () =>
    isInputKept ? INPUT_KEPT : 'What is read meanwhile is kept.',
  )
  const stopListening = [
    tellAddedDevices(client, output),
    tellHeld(client, output),
    tellDelays(client, output),
    tellDisplaced(client, output),
    tellPending(client, output),
    tellServerKey(client, output),
    connection.close,
    client.onState((state) => {
      if (state.type === 'stopped') stopped.abort()
    }),
    client.onReceipt((receipt) => printReceipt(output, receipt)),
    client.onRefused((refusal) => {
      const { eventId, streamName: stream, code, isKept } = refusal
      tellRefused(code, describeKept(refusal), { event_id: formatUuid(eventId), stream, kept: isKept })
    }),
  ]
  const window = createPublishWindow({
    publish: (piece) => client.publish(streamName, piece, { ttlS, signal: gaveUp.signal }),
    onRefused: (position, { code, message }) =>
      tellRefused(code, `Refused for good: ${message} (event ${position} of this run)`, {
        stream: streamName,
        position,
      }),
  })
  try {
    client.start()
    if (whole !== undefined) await window.add(whole)
    else {
      if (stdin.isTTY) output.notice('reading', 'Each line you type is published; Ctrl-D ends.')
      for await (const piece of cutLines(addAbortSignal(signal, stdin), MAX_BODY_BYTES)) {
        await window.add(piece)
        // A reader of the receipts that is slow slows the reading of the input.
        await output.drained()
      }
    }
    await window.settle()
    isInputKept = true
    if (connection.isAway) output.notice('input_kept', INPUT_KEPT)
    await client.flush(signal)
  } catch (error) {
    throwIfStopped(client)
    if (!interrupted.aborted) throw error
    await window.settle().catch(() => {})
    return await tellKept(device, output, homeDir, window)
  } finally {
    for (const stop of stopListening) stop()
    await client.close()
  }
  return refusals === 0 ? EXIT.success : EXIT.failure
}

/** The cause for which a client stopped, rather than whatever it made fail. */
function throwIfStopped(client: Client): void {
  const state = client.state()
  if (state.type === 'stopped' && state.cause.type !== 'closed') throw new ClientStoppedError(state.cause)
}

async function tellKept(
  device: NodeDevice,
  output: Output,
  homeDir: string,
  window: Pick<PublishWindow, 'givenUp'>,
): Promise<number> {
  const { outboxEvents } = await device.status()
  const { givenUp } = window
  const kept =
    outboxEvents === 0
      ? 'Interrupted. All that was read has its receipt.'
      : `Interrupted. ${outboxEvents} events without a receipt are kept in ${homeDir} and sent the next time.`
  const lost = `The last ${givenUp} events that were read are NOT kept: the outbox was full.`
  output.notice('interrupted', givenUp === 0 ? kept : `${kept}\n${lost}`, {
    outbox_events: outboxEvents,
    given_up: givenUp,
  })
  return EXIT.interrupted
}

/** Throws a MisuseError for a file that is not there, no file, or too large for one event. */
async function readWhole(file: string): Promise<Piece> {
  const expected = 'Expected --file with a readable file.'
  const body = await (async () => {
    const facts = await stat(file)
    if (!facts.isFile()) throw new MisuseError('bad_file', `${file} is not a file. ${expected}`)
    if (facts.size > MAX_BODY_BYTES) {
      throw new MisuseError(
        'file_too_large',
        `${file} has ${facts.size} bytes; one event carries at most ${MAX_BODY_BYTES}. Without --file a file of any size travels line by line: valise send STREAM < ${file}`,
      )
    }
    return readFile(file)
  })().catch((error: unknown) => {
    if (error instanceof MisuseError) throw error
    const reason = error instanceof Error && 'code' in error ? String(error.code) : 'unknown'
    throw new MisuseError('bad_file', `${file} cannot be read (${reason}). ${expected}`, { cause: error })
  })
  return { type: 'file', body }
}

/** In seconds. */
function parseLifetime(text: string): number {
  const seconds = (parseDurationMs(text) ?? 0) / 1000
  if (seconds >= 1 && seconds <= MAX_TTL_S) return seconds
  const days = MAX_TTL_S / 86_400
  throw new InvalidArgumentError(`Expected a number and s, m, h or d, such as 30s, 10m or 7d, up to ${days} days.`)
}
