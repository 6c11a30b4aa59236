// What a device was given of the log, one record an event, as plain values that tests compare.

import { type Events, parseEvent, toHex } from '@valise/protocol'

export interface ReceivedEvent {
  readonly userSeq: number
  readonly streamSeq: number
  readonly storedAtMs: number
  /** Ids in hexadecimal. */
  readonly deviceId: string
  readonly deviceSeq: number
  /** Undefined when its bytes are gone. */
  readonly wire: Uint8Array | undefined
  readonly eventId: string
  readonly streamId: string
}

export function readEvents(message: Events): ReceivedEvent[] {
  return message.events.map((item) => {
    const [userSeq, streamSeq, storedAtMs] = item
    if (item.length === 8) {
      const [, , , deviceId, deviceSeq] = item
      const place = { userSeq, streamSeq, storedAtMs, deviceId: toHex(deviceId), deviceSeq }
      return { ...place, wire: undefined, eventId: '', streamId: '' }
    }
    const wire = item[3]
    const event = parseEvent(wire)
    if (event === undefined) throw new Error('the server delivered what is no event')
    return {
      userSeq,
      streamSeq,
      storedAtMs,
      deviceId: toHex(event.deviceId),
      deviceSeq: event.deviceSeq,
      wire,
      eventId: toHex(event.eventId),
      streamId: toHex(event.streamId),
    }
  })
}
