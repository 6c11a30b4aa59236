// Says what was asked for without the recovery phrase and waits seven days: who asked, when it takes effect, and what to do.

import type { Client, Pending, PendingChange } from '@valise/client'
import { formatDeviceFingerprint, formatTime } from '@valise/client/node'
import { formatUuid } from '@valise/protocol'
import type { JsonFields, Output } from './output.ts'

const DAY_MS = 86_400_000

const WHAT = { recovery: 'a new recovery phrase without the old one', close: 'the deletion of the account' } as const
const CANCEL = { recovery: 'valise recovery cancel', close: 'valise account keep' } as const

export const pendingFields = ({ kind, signer, askedAtMs, dueAtMs, isOwn }: Pending): JsonFields => ({
  pending: kind,
  asked_by: formatUuid(signer),
  this_device: isOwn,
  asked_at: formatTime(askedAtMs),
  takes_effect_at: formatTime(dueAtMs),
})

export function describePending({ kind, signer, isOwn, askedAtMs, dueAtMs }: Pending): string {
  const who = isOwn ? 'This device' : `The device ${formatDeviceFingerprint(signer)}`
  const asked = `${who} asked for ${WHAT[kind]} (${formatTime(askedAtMs)}). It takes effect after ${formatTime(dueAtMs)}.`
  const cancel = `run \`${CANCEL[kind]}\` on any manager`
  if (isOwn) return `${asked} To cancel it, ${cancel}.`
  return `${asked} If you did not do this, ${cancel}, and revoke that device: \`valise revoke ${formatDeviceFingerprint(signer).slice(0, 9)}\`.`
}

function describeChange(change: PendingChange): string {
  const { pending } = change
  switch (change.type) {
    case 'asked':
      return describePending(pending)
    case 'ended':
      return `What ${pending.isOwn ? 'this device' : `the device ${formatDeviceFingerprint(pending.signer)}`} asked for, ${WHAT[pending.kind]}, waits no longer: it took effect or was cancelled. \`valise status\` shows what holds now.`
    case 'settled_early': {
      const days = (change.afterMs / DAY_MS).toFixed(1)
      return `A new recovery phrase took effect ${days} days after it was asked for, not after seven. The server did not keep the time, or a clock is wrong. If you did not make this phrase, revoke the device ${formatDeviceFingerprint(pending.signer)} and run \`valise recovery new\`.`
    }
  }
}

const NOTICES = { asked: 'pending', ended: 'pending_ended', settled_early: 'settled_early' } as const

/** Returns how to stop it. */
export const tellPending = (client: Client, output: Output): (() => void) =>
  client.onPending((change) => {
    output.notice(NOTICES[change.type], describeChange(change), pendingFields(change.pending))
  })
