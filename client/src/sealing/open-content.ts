// What an event holds once its key is there, as every holder of the key finds it: content, nothing, content of a newer
// program, or a fault of the device that sealed it.

import type { ParsedEvent } from '@valise/protocol'
import { type EventContent, isOwnName, parseContent } from './content.ts'
import { openEvent } from './event-seal.ts'

/** What is wrong inside an event. Its device is to blame: nobody else can seal under its signature. */
export type ContentFault =
  /** It does not open under the key of its epoch, or its padding is not exact. */
  | 'unopenable'
  /** It opens, and its content does not parse. */
  | 'unparsable'
  /** Its type and its flags disagree about whether the event is the client's own. */
  | 'kept_mismatch'

export type OpenedContent =
  | { readonly type: 'content'; readonly content: EventContent }
  /** A tombstone. */
  | { readonly type: 'nothing' }
  | { readonly type: 'unknown_version' }
  | { readonly type: 'fault'; readonly kind: ContentFault }

export const openContent = (contentKey: Uint8Array, event: ParsedEvent): OpenedContent =>
  readContent(event, openEvent(contentKey, event))

/** `data` is what `event` opened to, `undefined` when it did not open. */
export function readContent(event: ParsedEvent, data: Uint8Array | undefined): OpenedContent {
  if (data === undefined) return { type: 'fault', kind: 'unopenable' }
  if (event.isTombstone) return { type: 'nothing' }
  const parsed = parseContent(data)
  switch (parsed.type) {
    case 'unknown_version':
      return parsed
    case 'unparsable':
      return { type: 'fault', kind: 'unparsable' }
    case 'content':
      return isOwnName(parsed.content.type) === event.isKept ? parsed : { type: 'fault', kind: 'kept_mismatch' }
  }
}
