// What became of an event that was published: its receipt, or its refusal and where its content is.

import type { PublishReceipt, PublishRefusal } from '@valise/client'
import { formatTime } from '@valise/client/node'
import { formatUuid } from '@valise/protocol'
import type { Output } from './output.ts'

export function printReceipt(output: Output, receipt: PublishReceipt): void {
  const { eventId, streamName, deviceSeq, streamSeq, userSeq, storedAtMs, isDuplicate } = receipt
  const fields = {
    event_id: formatUuid(eventId),
    device_seq: deviceSeq,
    stream_seq: streamSeq,
    user_seq: userSeq,
    stored_at: formatTime(storedAtMs),
    duplicate: isDuplicate,
  }
  const words = Object.entries(fields).map(([name, value]) => `${name} ${value}`)
  output.result(`stored ${words.join('  ')}`, { stream: streamName, ...fields })
}

export function describeKept({ eventId, text, isKept }: PublishRefusal): string {
  const refused = `Refused for good: ${text} (event ${formatUuid(eventId)}).`
  return isKept
    ? `${refused} Its content is kept on this device: \`valise refused list\`, then retry or discard it.`
    : `${refused} Its lifetime is over, so its content is not kept.`
}
