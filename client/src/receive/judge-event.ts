// What a device with the key of an event's epoch can say of it (PROTOCOL E, FLT-1): its content, that there is none, that
// it must wait, or that its device is at fault. Pure, and alike for every holder of the log: only the event's own bytes
// and the key that the signed log commits to decide.

import type { ParsedEvent } from '@valise/protocol'
import type { EventContent } from '../sealing/content.ts'
import { openContent } from '../sealing/open-content.ts'
import type { FaultKind, WaitKind } from './standing.ts'

export type Judgement =
  | { readonly type: 'content'; readonly content: EventContent }
  /** A tombstone. */
  | { readonly type: 'nothing' }
  /** From this event on the device is held back. */
  | { readonly type: 'hold'; readonly kind: FaultKind | WaitKind }

const hold = (kind: FaultKind | WaitKind): Judgement => ({ type: 'hold', kind })

/** `contentKey` is that of the event's epoch, or `undefined` while it is not here. Signatures are judged elsewhere. */
export function judgeEvent(contentKey: Uint8Array | undefined, event: ParsedEvent): Judgement {
  if (contentKey === undefined) return hold('no_key')
  const opened = openContent(contentKey, event)
  switch (opened.type) {
    case 'content':
    case 'nothing':
      return opened
    case 'unknown_version':
      return hold('newer_content')
    case 'fault':
      return hold(opened.kind)
  }
}
