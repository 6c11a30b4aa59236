// `valise export FILE`: all that this device holds and can read, in a file that can be checked without a server
// (docs/EXPORT.md); with --verify it checks such a file and needs no account.

import { checkExport, type NodeDevice, SetupError } from '@valise/client/node'
import { encodeUtf8, toHex } from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { readLines, refuseExisting, writeLines } from '../export-file.ts'
import { EXIT } from '../failure.ts'
import { withHome } from '../home.ts'
import { watchInterruption } from '../interruption.ts'
import type { AddCommand, Invocation } from '../invocation.ts'
import { parseStreamName } from '../stream-name.ts'

interface ExportOptions {
  readonly force?: true
  readonly offline?: true
  readonly verify?: true
  readonly stream: readonly string[]
}

export const addExport: AddCommand = (program, run) => {
  program
    .command('export')
    .description('write everything this device holds, readable, into a file; - is standard output')
    .argument('<file>', 'file to write; with --verify the file to check')
    .option('--force', 'replace a file that is there')
    .option('--offline', 'what this device holds, without asking the server for more')
    .option('--stream <name>', 'name of a stream that this device never used; may be given several times', collect, [])
    .option('--verify', 'check an export: hashes, chains, signatures, and that nothing is missing; needs no account')
    .action(
      run((invocation, file: string, options: ExportOptions) =>
        options.verify === true
          ? verify(invocation, file)
          : withHome(invocation.homeDir, (device) => exportTo(invocation, device, file, options)),
      ),
    )
}

const collect = (text: string, before: readonly string[]): string[] => [...before, parseStreamName(text)]

async function verify({ output, stdin }: Invocation, file: string): Promise<number> {
  const { userId, deviceLogEntries, events, expired, voided, heldBack, streams } = await checkExport(
    nodeCrypto,
    readLines(file, stdin),
  )
  const text = `Sound. User ${toHex(userId)}: ${events} events in ${streams} streams, ${expired} expired, ${voided} void, ${heldBack} held back, ${deviceLogEntries} device-log entries.`
  output.result(text, {
    sound: true,
    user_id: toHex(userId),
    events,
    expired,
    void: voided,
    held_back: heldBack,
    streams,
    device_log_entries: deviceLogEntries,
  })
  return EXIT.success
}

async function exportTo(
  { output }: Invocation,
  device: NodeDevice,
  file: string,
  { force, offline, stream }: ExportOptions,
): Promise<number> {
  const signal = watchInterruption(output)
  if (file !== '-' && force !== true) await refuseExisting(file)
  if (offline !== true) await catchUp(device, signal)
  const { outboxEvents, heldEvents } = await device.status()
  const lines = untilAborted(device.exportLines(stream), signal)
  if (outboxEvents > 0) {
    output.notice('unsent', `${outboxEvents} events have no receipt yet and are not in the export.`, {
      outbox_events: outboxEvents,
    })
  }
  if (file === '-') {
    for await (const line of lines) {
      if (!(await output.write(encodeUtf8(`${line}\n`)))) break
    }
    return EXIT.success
  }
  const bytes = await writeLines(file, lines, force === true)
  output.result(
    `Exported ${heldEvents} events, ${bytes} bytes, to ${file}. Whoever has the file reads everything in it.`,
    { type: 'exported', file, events: heldEvents, bytes },
  )
  return EXIT.success
}

/** All that the server has, and receipts for what this device sent. Rejects when it is away: nothing shall be missed unseen. */
async function catchUp(device: NodeDevice, signal: AbortSignal): Promise<void> {
  const client = device.client()
  const away = new AbortController()
  const stopListening = client.onState((state) => {
    if (state.type === 'offline' && state.retryAtMs !== undefined) away.abort()
  })
  const waiting = AbortSignal.any([signal, away.signal])
  try {
    client.start()
    await client.whenLive(waiting)
    await client.flush(waiting)
  } catch (error) {
    if (signal.aborted) throw new SetupError('aborted', 'Given up; nothing was written.', { cause: error })
    if (!away.signal.aborted) throw error
    const text = 'The server is away. To export what this device holds without it, give --offline.'
    throw new SetupError('server_unreachable', text, { cause: error })
  } finally {
    stopListening()
  }
}

async function* untilAborted(lines: AsyncIterable<string>, signal: AbortSignal): AsyncGenerator<string> {
  for await (const line of lines) {
    if (signal.aborted) throw new SetupError('aborted', 'Given up; nothing was written.')
    yield line
  }
}
