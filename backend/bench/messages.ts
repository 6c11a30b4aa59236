// The hot messages of the load generator, read and written by hand, because a client's schemas would cost more than the
// server under test: publish goes out from pre-encoded events, events and receipts come in. Anything else that arrives
// goes through the protocol's own decoder.

import { decodeServerMessages, type ServerMessage } from '@valise/protocol'

export interface PayloadHandlers {
  onEvent(userSeq: number, wire: Uint8Array): void
  onReceipt(deviceSeq: number, userSeq: number): void
  onMessage(message: ServerMessage): void
}

const EVENTS_PREFIX = Buffer.from('\xa3\x64type\x66events\x66events', 'latin1')
const THROUGH = Buffer.from('\x67through', 'latin1')
const RECEIPTS_PREFIX = Buffer.from('\xa2\x64type\x68receipts\x68receipts', 'latin1')
const PUBLISH_PREFIX = Buffer.from('\xa2\x64type\x67publish\x66events', 'latin1')

const MAJOR_BYTES = 2
const MAJOR_ARRAY = 4

/** Calls the handlers for each message of one frame's payload. Throws on bytes that a server would not send. */
export function readServerPayload(payload: Uint8Array, handlers: PayloadHandlers): void {
  const cursor = createCursor(payload)
  const count = cursor.peekMajor() === MAJOR_ARRAY ? cursor.head(MAJOR_ARRAY) : 1
  for (let index = 0; index < count; index++) {
    if (cursor.skip(EVENTS_PREFIX)) readEvents(cursor, handlers)
    else if (cursor.skip(RECEIPTS_PREFIX)) readReceipts(cursor, handlers)
    else return readOthers(payload, index, handlers)
  }
}

function readEvents(cursor: Cursor, handlers: PayloadHandlers): void {
  for (let left = cursor.head(MAJOR_ARRAY); left > 0; left--) {
    if (cursor.head(MAJOR_ARRAY) !== 4) throw new Error('an event of this benchmark never expires')
    const userSeq = cursor.head(0)
    cursor.head(0)
    cursor.head(0)
    handlers.onEvent(userSeq, cursor.bytes())
  }
  if (!cursor.skip(THROUGH)) throw new Error('the events message has another form')
  cursor.head(0)
}

function readReceipts(cursor: Cursor, handlers: PayloadHandlers): void {
  for (let left = cursor.head(MAJOR_ARRAY); left > 0; left--) {
    cursor.head(MAJOR_ARRAY)
    const deviceSeq = cursor.head(0)
    cursor.head(0)
    const userSeq = cursor.head(0)
    cursor.head(0)
    cursor.byte()
    handlers.onReceipt(deviceSeq, userSeq)
  }
}

function readOthers(payload: Uint8Array, from: number, handlers: PayloadHandlers): void {
  const decoded = decodeServerMessages(payload)
  if (!decoded.ok) throw new Error(`the server sent a message that does not parse: ${decoded.code}`)
  for (const message of decoded.messages.slice(from)) {
    if (message.type === 'receipts') {
      for (const [deviceSeq, , userSeq] of message.receipts) handlers.onReceipt(deviceSeq, userSeq)
    } else if (message.type === 'events') {
      for (const event of message.events) {
        if (event.length !== 4) throw new Error('an event of this benchmark never expires')
        handlers.onEvent(event[0], event[3])
      }
    } else handlers.onMessage(message)
  }
}

interface Cursor {
  peekMajor(): number
  byte(): number
  /** The count, length or integer of an item of that major type (RFC 8949 §3). */
  head(major: number): number
  bytes(): Uint8Array
  /** Steps over the bytes when they are next. */
  skip(expected: Uint8Array): boolean
}

function createCursor(input: Uint8Array): Cursor {
  let at = 0
  const byte = (): number => input[at++] ?? 0
  const big = (length: number): number => {
    let value = 0
    for (let i = 0; i < length; i++) value = value * 256 + byte()
    return value
  }
  const head = (major: number): number => {
    const first = byte()
    if (first >> 5 !== major) throw new Error(`expected CBOR of major type ${major}`)
    const short = first & 31
    return short < 24 ? short : big(2 ** (short - 24))
  }
  return {
    peekMajor: () => (input[at] ?? 0) >> 5,
    byte,
    head,
    bytes: () => {
      const length = head(MAJOR_BYTES)
      at += length
      return input.subarray(at - length, at)
    },
    skip: (expected) => {
      for (let i = 0; i < expected.length; i++) if (input[at + i] !== expected[i]) return false
      at += expected.length
      return true
    },
  }
}

const arrayHead = (count: number): number[] =>
  count < 24 ? [0x80 | count] : count < 256 ? [0x98, count] : [0x99, count >> 8, count & 255]

/** One event as an element of the message's array: its length and its bytes. Wires of this benchmark have 256 to 65 535. */
export function encodeWireElement(wire: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.of(0x59, wire.length >> 8, wire.length & 255), wire])
}

/** A publish message of `count` events given as consecutive elements. */
export function encodePublish(elements: Uint8Array, count: number): Uint8Array {
  return Buffer.concat([PUBLISH_PREFIX, Buffer.from(arrayHead(count)), elements])
}
