// Holds devices back and lets them go (PROTOCOL E, FLT-1 to FLT-4): judges what a batch brings, keeps from where each device
// is held, judges once more what was waited for, and takes reports of faults that this device could not see itself.

import {
  type Crypto,
  chainAfter,
  type DeviceId,
  type DeviceLogState,
  type DeviceState,
  equalBytes,
  findDevice,
  isBeyondCut,
  isSameId,
  leafOf,
  type ParsedEvent,
  parseEvent,
  toHex,
  verifyEventSignature,
} from '@valise/protocol'
import type { EpochKeys } from '../account/epoch-keys.ts'
import { createListeners } from '../signal.ts'
import type { LocalLog, LogEvent } from '../store/local-log.ts'
import type { Store, StoreOperation } from '../store/store.ts'
import type { CheckedBatch } from './check-events.ts'
import { createReportAssembly, FAULT_TYPE, parseReportPart, type ReportPart } from './fault-report.ts'
import { judgeEvent } from './judge-event.ts'
import type { LateEvents } from './late-events.ts'
import { isProvedFrom, type RejudgeParts, type ReleasedEvent, rejudge } from './rejudge.ts'
import { type FaultKind, type Hold, isFault, isFaultKind, openStanding, type Standing } from './standing.ts'

/** What became of what a device wrote. */
export type HoldChange =
  /** From here on nothing of the device is handed on. */
  | { readonly type: 'held'; readonly hold: Hold }
  /** These events count after all; who has read past them finds them when it reads again. */
  | { readonly type: 'released'; readonly deviceId: DeviceId; readonly events: readonly ReleasedEvent[] }

/** A fault that this device found in bytes that others may not have. */
export interface FoundFault {
  readonly hold: Hold & { readonly kind: FaultKind }
  readonly event: ParsedEvent
  readonly wire: Uint8Array
}

export interface JudgedBatch {
  /** To be stored together with the batch. */
  readonly also: readonly StoreOperation[]
  /** Events that were opened, with their places. */
  readonly opened: readonly { readonly userSeq: number; readonly event: ParsedEvent }[]
  /** Notes what was stored, tells of it, and judges what it proves. Throws when the store fails. */
  onStored(): Promise<void>
}

export interface Holds {
  readonly standing: Standing
  judge(batch: Pick<CheckedBatch, 'events' | 'unproved'>): JudgedBatch
  /** Keys of epochs have come, or the program was updated: judges what waited for that. */
  retry(): Promise<void>
  /** Calls with the holds that stand, then with each change. */
  add(listener: (change: HoldChange) => void): () => void
  /** Events that are held back now. */
  count(): Promise<number>
}

export interface HoldsParts {
  readonly store: Store
  readonly crypto: Crypto
  readonly log: LocalLog
  readonly epochKeys: Pick<EpochKeys, 'contentKey'>
  deviceLog(): DeviceLogState | undefined
  /** What was held back and counts after all comes late for a reader that has gone past it. */
  readonly lateEvents: Pick<LateEvents, 'operations' | 'emit'>
  /** A device is held back for a fault, or waits. */
  onHold(hold: Hold): void
  /** To be published, when the bytes may go before others have them. */
  onFault(fault: FoundFault): void
  /** A listener threw. */
  onFailure(error: unknown): void
}

export async function openHolds(parts: HoldsParts): Promise<Holds> {
  const { store, crypto, log, epochKeys } = parts
  const standing = await openStanding(store)
  const listeners = createListeners<HoldChange>(parts.onFailure)
  const assembly = createReportAssembly()
  let hasLooked = false

  const isVoid = ({ deviceId, deviceSeq }: { deviceId: DeviceId; deviceSeq: number }): boolean => {
    const device = findDevice(parts.deviceLog(), deviceId)
    return device !== undefined && isBeyondCut(device, deviceSeq)
  }
  const tell = (hold: Hold): void => {
    parts.onHold(hold)
    listeners.emit({ type: 'held', hold })
  }
  const hold = async (next: Hold): Promise<void> => {
    await store.batch([standing.saving(next)])
    standing.note(next)
    tell(next)
  }
  const found = (next: Hold, wire: Uint8Array): void => {
    const event = parseEvent(wire)
    if (event !== undefined && isFault(next)) parts.onFault({ hold: next, event, wire })
  }

  const judging = ({ record }: DeviceState): RejudgeParts => {
    return { crypto, log, edPub: record.edPub, contentKey: epochKeys.contentKey, isVoid }
  }

  const judgeAgain = async (before: Hold): Promise<void> => {
    const { deviceId } = before
    const device = findDevice(parts.deviceLog(), deviceId)
    if (device === undefined) return
    const { hold: after, released } = await rejudge(judging(device), before)
    if (after?.fromSeq === before.fromSeq && after.kind === before.kind) return
    const places = released.map(({ userSeq }) => userSeq)
    await store.batch([
      after === undefined ? standing.clearing(deviceId) : standing.saving(after),
      ...parts.lateEvents.operations(places, log.progress.cursor),
    ])
    if (after === undefined) standing.clear(deviceId)
    else standing.note(after)
    if (released.length > 0) {
      listeners.emit({ type: 'released', deviceId, events: released })
      await parts.lateEvents.emit(places)
    }
    if (after === undefined) return
    tell(after)
    const [stored] = await log.read(undefined, after.userSeq - 1, 1)
    if (stored?.record.body.type === 'stored') found(after, stored.record.body.wire)
  }

  /** Judging looks at every held event, so a device that holds many must not cause it again and again. */
  const isWorthAnotherLook = async (hold: Hold): Promise<boolean> => {
    switch (hold.kind) {
      case 'unjudged':
        return true
      case 'newer_content':
        // The program may have been updated.
        return !hasLooked
      case 'no_key': {
        const [first] = await log.read(undefined, hold.userSeq - 1, 1)
        const event = first?.record.body.type === 'stored' ? parseEvent(first.record.body.wire) : undefined
        return event === undefined || epochKeys.contentKey(event.epoch) !== undefined
      }
      case 'unproved':
      case 'signature':
      case 'unopenable':
      case 'unparsable':
      case 'kept_mismatch':
        return false
    }
  }

  /** The fault that a reported event is, or nothing: its bytes decide, not who reports them. */
  const judgeReported = async (event: ParsedEvent): Promise<FaultKind | undefined> => {
    const { deviceId, deviceSeq } = event
    const device = findDevice(parts.deviceLog(), deviceId)
    if (device === undefined) return undefined
    if (!verifyEventSignature(crypto, device.record.edPub, event)) {
      const isProved = await isProvedFrom(judging(device), { deviceId, fromSeq: deviceSeq + 1 })
      return isProved ? 'signature' : undefined
    }
    const judgement = judgeEvent(epochKeys.contentKey(event.epoch), event)
    return judgement.type === 'hold' && isFaultKind(judgement.kind) ? judgement.kind : undefined
  }

  const takeReport = async (reporter: DeviceId, part: ReportPart): Promise<void> => {
    const wire = assembly.add(toHex(reporter), part)
    const event = wire && parseEvent(wire)
    if (event === undefined || event.deviceSeq !== part.deviceSeq || !isSameId(event.deviceId, part.deviceId)) return
    const { deviceId, deviceSeq } = event
    // What is held already waits or is void; a later fault must not raise the place from which it is held.
    if (standing.isHeld(event) || isVoid(event)) return
    const userSeq = await log.placeOf(deviceId, deviceSeq)
    const chain = await log.chainAt(deviceId, deviceSeq)
    if (userSeq === undefined || chain === undefined) return
    if (!equalBytes(chain, chainAfter(crypto, event.chainPrev, leafOf(crypto, event)))) return
    const kind = await judgeReported(event)
    if (kind !== undefined) await hold({ deviceId, kind, fromSeq: deviceSeq, userSeq })
  }

  const judge = (batch: Pick<CheckedBatch, 'events' | 'unproved'>): JudgedBatch => {
    const { events } = batch
    const unproved = new Map(batch.unproved.map(({ deviceId, fromSeq }) => [toHex(deviceId), fromSeq]))
    const heldHere = new Map<string, { readonly hold: Hold; readonly wire: Uint8Array | undefined }>()
    const opened: { userSeq: number; event: ParsedEvent }[] = []
    const reports: { readonly reporter: DeviceId; readonly part: ReportPart }[] = []
    const seen = new Map<string, DeviceId>()

    const judgeOne = ({ userSeq, deviceId, deviceSeq, body }: LogEvent): void => {
      const hex = toHex(deviceId)
      if (standing.isHeld({ deviceId, deviceSeq }) || heldHere.has(hex)) return
      const wire = body.type === 'stored' ? body.wire : undefined
      const holdHere = (kind: Hold['kind']): void => {
        heldHere.set(hex, { hold: { deviceId, kind, fromSeq: deviceSeq, userSeq }, wire })
      }
      if (deviceSeq >= (unproved.get(hex) ?? Number.POSITIVE_INFINITY)) return holdHere('unproved')
      if (body.type !== 'stored') return
      const judgement = judgeEvent(epochKeys.contentKey(body.event.epoch), body.event)
      if (judgement.type === 'hold') return holdHere(judgement.kind)
      opened.push({ userSeq, event: body.event })
      if (judgement.type !== 'content' || judgement.content.type !== FAULT_TYPE) return
      const part = parseReportPart(judgement.content.body)
      if (part !== undefined) reports.push({ reporter: deviceId, part })
    }
    for (const event of events) {
      if (event.isVoid) continue
      seen.set(toHex(event.deviceId), event.deviceId)
      judgeOne(event)
    }
    const proved = [...seen].flatMap(([hex, deviceId]): Hold[] => {
      const before = standing.holdOf(deviceId)
      return before?.kind === 'unproved' && !unproved.has(hex) ? [{ ...before, kind: 'unjudged' }] : []
    })
    const changed = [...[...heldHere.values()].map(({ hold }) => hold), ...proved]
    return {
      also: changed.map(standing.saving),
      opened,
      onStored: async () => {
        for (const next of changed) standing.note(next)
        for (const { hold: next, wire } of heldHere.values()) {
          tell(next)
          if (wire !== undefined) found(next, wire)
        }
        for (const before of proved) await judgeAgain(before)
        for (const { reporter, part } of reports) await takeReport(reporter, part)
      },
    }
  }

  return {
    standing,
    judge,
    retry: async () => {
      for (const before of standing.holds) if (await isWorthAnotherLook(before)) await judgeAgain(before)
      hasLooked = true
    },
    add: (listener) => {
      const remove = listeners.add(listener)
      try {
        for (const each of standing.holds) listener({ type: 'held', hold: each })
      } catch (error) {
        parts.onFailure(error)
      }
      return remove
    },
    count: async () => {
      let count = 0
      for (const { deviceId, fromSeq } of standing.holds) {
        for await (const _userSeq of log.eventsOfDevice(deviceId, fromSeq - 1)) count += 1
      }
      return count
    },
  }
}
