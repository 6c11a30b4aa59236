// Judges a device's held events once more when something has changed that they waited for: a signature that proves them, the
// key of their epoch, a program that knows their content. Events are judged in the order of their device, so that everybody
// finds the same first fault.

import { type Crypto, type ParsedEvent, parseEvent, verifyEventSignature } from '@valise/protocol'
import { AlarmError } from '../alarm.ts'
import { storeKeys } from '../store/layout.ts'
import type { LocalLog } from '../store/local-log.ts'
import { judgeEvent } from './judge-event.ts'
import type { Hold } from './standing.ts'

export interface RejudgeParts {
  readonly crypto: Crypto
  readonly log: Pick<LocalLog, 'eventsOfDevice' | 'read'>
  readonly edPub: Uint8Array
  contentKey(epoch: number): Uint8Array | undefined
  /** True for what a cut has made void: nobody judges that. */
  isVoid(event: Pick<ParsedEvent, 'deviceId' | 'deviceSeq'>): boolean
}

/** An event that was held back and counts. */
export interface ReleasedEvent {
  readonly userSeq: number
  readonly deviceSeq: number
}

export interface Rejudged {
  /** What holds now, or nothing more. */
  readonly hold: Hold | undefined
  readonly released: readonly ReleasedEvent[]
}

interface Held {
  readonly userSeq: number
  readonly event: ParsedEvent
}

type Place = Pick<Hold, 'deviceId' | 'fromSeq'>

/** The events of the device from a place on whose bytes are here and which no cut has made void. */
async function* eventsFrom({ log, isVoid }: RejudgeParts, { deviceId, fromSeq }: Place): AsyncGenerator<Held> {
  for await (const userSeq of log.eventsOfDevice(deviceId, fromSeq - 1)) {
    const [stored] = await log.read(undefined, userSeq - 1, 1)
    if (stored?.userSeq !== userSeq) throw new AlarmError('store_damaged', { record: storeKeys.event(userSeq) })
    if (stored.record.body.type !== 'stored') continue
    const event = parseEvent(stored.record.body.wire)
    if (event === undefined) throw new AlarmError('store_damaged', { record: storeKeys.event(userSeq) })
    if (isVoid(event)) return
    yield { userSeq, event }
  }
}

/** The newest event from the hold on whose own signature holds: it proves all before it. 0: none. */
async function provedUpTo(parts: RejudgeParts, hold: Hold): Promise<number> {
  let proved = 0
  for await (const { event } of eventsFrom(parts, hold)) {
    if (verifyEventSignature(parts.crypto, parts.edPub, event)) proved = event.deviceSeq
  }
  return proved
}

/**
 * Whether a signature of the device at this place or after it holds. A chain that only goes on proves nothing: a server can
 * invent events without bytes.
 */
export async function isProvedFrom(parts: RejudgeParts, place: Place): Promise<boolean> {
  for await (const { event } of eventsFrom(parts, place)) {
    if (verifyEventSignature(parts.crypto, parts.edPub, event)) return true
  }
  return false
}

/** A hold for a fault is final; it is not to be asked for. */
export async function rejudge(parts: RejudgeParts, hold: Hold): Promise<Rejudged> {
  const proved = await provedUpTo(parts, hold)
  const released: ReleasedEvent[] = []
  const holdFrom = ({ userSeq, event }: Held, kind: Hold['kind']): Rejudged => ({
    hold: { deviceId: hold.deviceId, kind, fromSeq: event.deviceSeq, userSeq },
    released,
  })
  for await (const held of eventsFrom(parts, hold)) {
    const { event, userSeq } = held
    if (event.deviceSeq > proved) return holdFrom(held, 'unproved')
    if (!verifyEventSignature(parts.crypto, parts.edPub, event)) return holdFrom(held, 'signature')
    const judgement = judgeEvent(parts.contentKey(event.epoch), event)
    if (judgement.type === 'hold') return holdFrom(held, judgement.kind)
    released.push({ userSeq, deviceSeq: event.deviceSeq })
  }
  return { hold: undefined, released }
}
