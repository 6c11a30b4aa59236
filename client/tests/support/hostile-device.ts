// A device in the wrong hands: it holds the keys of a member or manager and publishes what no honest client would. What it
// publishes is chained, and signed unless told otherwise, so that only who opens it finds out.

import {
  assembleEvent,
  createEventId,
  type EventHeader,
  type EventId,
  parseEvent,
  type StreamId,
} from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { encodeContent } from '../../src/sealing/content.ts'
import { sealEvent } from '../../src/sealing/event-seal.ts'
import type { TestDevice } from './test-device.ts'
import type { TestServer } from './test-server.ts'

/** What is wrong with an event that an honest server cannot see. */
export const FAULTS = ['signature', 'unopenable', 'unparsable', 'kept_mismatch'] as const
export type Fault = (typeof FAULTS)[number]

const NOW_MS = 1_700_000_000_000

interface HostileEvent {
  readonly text: string
  readonly fault?: Fault | undefined
  readonly header?: Partial<EventHeader>
  readonly stream?: string
  /** The type and body of the content, in place of the text. */
  readonly content?: { readonly type: string; readonly body: Uint8Array }
}

/** Seals events that continue each other and stores them at the server. Their wires. */
export async function publishHostile(
  server: TestServer,
  { identity, client }: TestDevice,
  ...events: readonly HostileEvent[]
): Promise<Uint8Array[]> {
  const { userId, deviceId, keys } = identity
  const { epochKeys } = client.device
  const wires: Uint8Array[] = []
  for (const { text, fault, header, stream = 'notes', content } of events) {
    const state = server.state!
    const end = server.chainEnd(deviceId)
    const data = encodeContent({
      type: 'text',
      atMs: NOW_MS,
      body: new TextEncoder().encode(text),
      ...content,
    })
    if (fault === 'unparsable') data[1] = 0
    const key = fault === 'unopenable' ? crypto.randomBytes(32) : epochKeys.contentKey(state.epoch.n)!
    const fields: Omit<EventHeader, 'nonce'> = {
      userId,
      deviceId,
      deviceSeq: end.seq + 1,
      chainPrev: end.chain,
      streamId: epochKeys.streamId(stream) as StreamId,
      eventId: createEventId(NOW_MS, crypto.randomBytes(10)) as EventId,
      epoch: state.epoch.n,
      logSeq: state.seq,
      logHead: state.head,
      ttlS: 0,
      isTombstone: false,
      isKept: fault === 'kept_mismatch',
      checkpoint: undefined,
      ...header,
    }
    const { wire } = await sealEvent(crypto, keys.signer, key, fields, data)
    const published = fault === 'signature' ? withOtherSignature(wire) : wire
    server.keep(published)
    wires.push(published)
  }
  server.announce(wires.length)
  return wires
}

/** The same event with a signature that does not hold. */
export function withOtherSignature(wire: Uint8Array): Uint8Array {
  const event = parseEvent(wire)!
  const signature = event.signature.slice()
  signature[10]! ^= 1
  return assembleEvent(event.headerBytes, event.ciphertext, signature)
}
