// What a device itself did wrong, as every device that holds the same events and keys finds it. `alarmOf` is the one place
// that decides what follows from it.

import { type DeviceId, formatUuid } from '@valise/protocol'
import type { EpochKeys } from '../account/epoch-keys.ts'
import { AlarmError } from '../alarm.ts'
import { type ContentFault, type OpenedContent, openContent } from '../sealing/open-content.ts'
import type { LogEvent } from '../store/local-log.ts'
import type { CheckedBatch } from './check-events.ts'

export type FaultKind =
  /** No valid signature covers its events from here on. */
  'unproved' | ContentFault

export interface DeviceFault {
  readonly deviceId: DeviceId
  /** Its first event that the fault concerns. */
  readonly fromSeq: number
  readonly kind: FaultKind
  readonly userSeq: number
}

export type OpenedEvent =
  | OpenedContent
  /** The key of its epoch is not here. */
  | { readonly type: 'no_key'; readonly epoch: number }

/** What an event holds; nothing, when its bytes are gone. */
export function openChecked(epochKeys: Pick<EpochKeys, 'contentKey'>, { body }: Pick<LogEvent, 'body'>): OpenedEvent {
  if (body.type === 'expired') return { type: 'nothing' }
  const { epoch } = body.event
  const key = epochKeys.contentKey(epoch)
  return key === undefined ? { type: 'no_key', epoch } : openContent(key, body.event)
}

export interface OpenedBatch {
  /** In the order of `user_seq`. */
  readonly faults: readonly DeviceFault[]
  /** Events of applications. */
  readonly ordinary: number
}

/** Opens what counts of a batch. Throws the alarm for an epoch whose key is missing here. */
export function openBatch(epochKeys: Pick<EpochKeys, 'contentKey'>, batch: CheckedBatch): OpenedBatch {
  const faults: DeviceFault[] = batch.unproved.map((unproved) => ({ ...unproved, kind: 'unproved' }))
  let ordinary = 0
  for (const event of batch.events) {
    if (event.isVoid) continue
    const { deviceId, deviceSeq, userSeq } = event
    const opened = openChecked(epochKeys, event)
    switch (opened.type) {
      case 'no_key':
        throw new AlarmError('event_unreadable', {
          user_seq: userSeq,
          device: formatUuid(deviceId),
          epoch: opened.epoch,
        })
      case 'fault':
        faults.push({ deviceId, fromSeq: deviceSeq, kind: opened.kind, userSeq })
        break
      case 'content':
      case 'unknown_version':
        if (event.body.type === 'stored' && event.body.event.checkpoint === undefined) ordinary += 1
        break
      case 'nothing':
        break
    }
  }
  return { faults: faults.sort((a, b) => a.userSeq - b.userSeq), ordinary }
}

export const alarmOf = ({ deviceId, fromSeq, kind, userSeq }: DeviceFault): AlarmError =>
  new AlarmError(kind === 'unproved' ? 'signature_invalid' : 'event_unreadable', {
    user_seq: userSeq,
    device: formatUuid(deviceId),
    device_seq: fromSeq,
  })
