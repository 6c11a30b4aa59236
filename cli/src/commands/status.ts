// `valise status`: what this device holds, and whether its server answers.

import { type DeviceStatus, formatTime, SUSPENDED } from '@valise/client/node'
import { formatUuid, toBase64Url, toHex } from '@valise/protocol'
import { describeAccount } from '../account-fields.ts'
import { EXIT } from '../failure.ts'
import { withHome } from '../home.ts'
import type { AddCommand } from '../invocation.ts'
import { describePending, pendingFields } from '../pending-notices.ts'
import { describeServerAnswer, probeServer } from '../server-probe.ts'
import { printable } from '../visible.ts'

export const addStatus: AddCommand = (program, run) => {
  program
    .command('status')
    .description('show what this device holds, and whether its server answers')
    .action(
      run(({ output, homeDir }) =>
        withHome(homeDir, async (device) => {
          const { account, ...facts } = await device.status()
          if (account === undefined) return EXIT.misuse
          const streams = await device.streams()
          const server = await probeServer(account.serverUrl, {
            fingerprint: toBase64Url(account.serverFingerprint),
            next: account.serverNextFingerprint && toBase64Url(account.serverNextFingerprint),
          })
          const text = [
            `user         ${toHex(account.userId)}`,
            `device       ${printable(account.name)}  ${account.role}  ${formatUuid(account.deviceId)}`,
            `fingerprint  ${account.deviceFingerprint}`,
            `home         ${homeDir}`,
            `server       ${account.serverUrl}  ${describeServerAnswer(server)}`,
            `its key      ${toBase64Url(account.serverFingerprint)}`,
            ...describeNextKey(account.serverNextFingerprint),
            `cursor       ${facts.cursor}`,
            `held         ${facts.heldEvents} events`,
            `outbox       ${facts.outboxEvents} events, ${facts.outboxBytes} bytes without a receipt`,
            ...describeRefused(facts),
            ...describeVoid(facts.voidEvents),
            `device log   entry ${facts.logSeq}, key epoch ${facts.epoch}`,
            ...describeKeys(facts),
            ...facts.pending.map((pending) => `attention    ${describePending(pending)}`),
            ...describeLostLog(facts),
            ...streams.map(({ name, streamId, events }) => `stream       ${nameOf(name, streamId)}  ${events} events`),
          ]
          output.result(text.join('\n'), {
            ...describeAccount(account, homeDir),
            server_answer: server,
            cursor: facts.cursor,
            held_events: facts.heldEvents,
            outbox_events: facts.outboxEvents,
            outbox_bytes: facts.outboxBytes,
            refused_events: facts.refusedEvents,
            refused_bytes: facts.refusedBytes,
            void_events: facts.voidEvents,
            log_seq: facts.logSeq,
            log_head: toHex(facts.logHead),
            epoch: facts.epoch,
            closed_epochs: facts.closedEpochs,
            suspended: facts.isSuspended,
            pending: facts.pending.map(pendingFields),
            device_seq: facts.lastDeviceSeq,
            lost_log: facts.lostLog?.code ?? null,
            missing_events: facts.missingEvents,
            streams: streams.map(({ name, streamId, events }) => ({ name, stream_id: toHex(streamId), events })),
          })
          return EXIT.success
        }),
      ),
    )
}

const describeRefused = ({
  refusedEvents,
  refusedBytes,
}: Pick<DeviceStatus, 'refusedEvents' | 'refusedBytes'>): string[] =>
  refusedEvents === 0
    ? []
    : [
        `refused      ${refusedEvents} events, ${refusedBytes} bytes, kept here until \`valise refused retry\` or \`discard\``,
      ]

const describeNextKey = (fingerprint: Uint8Array | undefined): string[] =>
  fingerprint === undefined ? [] : [`next key     ${toBase64Url(fingerprint)}`]

const describeVoid = (count: number): string[] =>
  count === 0 ? [] : [`void         ${count} events, written by revoked devices beyond their cuts; not shown`]

function describeKeys({
  epoch,
  closedEpochs,
  isSuspended,
}: Pick<DeviceStatus, 'epoch' | 'closedEpochs' | 'isSuspended'>): string[] {
  const lines: string[] = []
  if (isSuspended) lines.push(`attention    ${SUSPENDED}`)
  if (closedEpochs.length > 0) {
    const waits = closedEpochs.includes(epoch) ? 'Nothing is sent until a manager starts a new key epoch.' : ''
    lines.push(
      `attention    the keys of ${closedEpochs.length} epochs (${closedEpochs.slice(0, MAX_NAMED).join(', ')}) do not open: the device that made them`,
      `             sealed them falsely. What was written under them waits for a manager to pass the key on. ${waits}`.trimEnd(),
    )
  }
  return lines
}

/** Epochs whose numbers are shown. */
const MAX_NAMED = 5

function describeLostLog({ lostLog, missingEvents }: Pick<DeviceStatus, 'lostLog' | 'missingEvents'>): string[] {
  const lines: string[] = []
  if (lostLog !== undefined) {
    lines.push(
      `attention    the server's log went backwards (${lostLog.code}, ${formatTime(lostLog.noticedAtMs)}); once its`,
      '             operator has confirmed that a backup was restored, run `valise republish` on each device',
    )
  }
  if (missingEvents > 0) {
    lines.push(`missing      ${missingEvents} events of your other devices, until \`valise republish\` was run on them`)
  }
  return lines
}

const nameOf = (name: string | undefined, streamId: Uint8Array): string =>
  name === undefined ? toHex(streamId) : printable(name)
