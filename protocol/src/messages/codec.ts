// CBOR in and out (RFC 8949): definite lengths, shortest forms, string keys, no duplicate keys, no tags, no floats,
// bounded depth, and as few parts as the largest honest frame has. An application frame holds one message or an array of
// them. No decoder throws on a peer's bytes, and none works longer on bad ones than on good ones.

import { decode, encode, type Token, Tokenizer, Type } from 'cborg'
import type { z } from 'zod'
import { type ClientMessage, clientMessage } from './client-messages.ts'
import { type ServerMessage, serverMessage } from './server-messages.ts'

/** `device_log.entries[0]` and `[messages].events[0][3]` are as deep as messages go. */
const MAX_DEPTH = 6
/** Messages in one frame. */
const MAX_MESSAGES = 64
/** `limits` of `session_established` has some twenty fields; no map has more. */
const MAX_MAP_KEYS = 32
/**
 * Numbers, texts, byte strings, arrays and maps of one frame. A client's largest frames are some 4000 events of the smallest
 * size; a server's are a page of 500 leaves or of 100 envelopes with eight links each.
 */
const MAX_TOKENS = { client: 8192, server: 16_384 } as const
type Sender = keyof typeof MAX_TOKENS

const DECODE_OPTIONS = {
  strict: true,
  allowIndefinite: false,
  allowUndefined: false,
  allowInfinity: false,
  allowNaN: false,
  allowBigInt: false,
  rejectDuplicateMapKeys: true,
}

/**
 * By the first byte of a token (RFC 8949, section 3): a text whose length does not fit one byte. Texts are names of messages
 * and fields, codes and reasons; whatever else a peer says is bytes. Seen before the text is read.
 */
const isLongText = (head = 0): boolean => head >> 5 === 3 && (head & 31) > 24

/** Fails on nesting before recursion can grow the stack, and on parts before they are built. */
function createBoundedTokenizer(data: Uint8Array, maxTokens: number): Tokenizer {
  const tokenizer = new Tokenizer(data, DECODE_OPTIONS)
  const open: number[] = []
  let count = 0
  const enter = (parts: number): void => {
    // What is announced and does not come would cost nothing yet; what comes has been announced.
    if (count + parts > maxTokens) throw new RangeError('too many parts')
    open.push(parts)
    if (open.length > MAX_DEPTH) throw new RangeError('nested too deeply')
  }
  const next = (): Token => {
    if (isLongText(data[tokenizer.pos()])) throw new RangeError('a long text')
    const token = tokenizer.next()
    count++
    // 1.0 is no form of the integer 1, for which it would pass. Any other float fits no schema, which names its field.
    if (token.type === Type.float && Number.isInteger(token.value)) throw new RangeError('an integer as a float')
    while (open.length > 0 && open[open.length - 1] === 0) open.pop()
    const top = open.length - 1
    if (top >= 0) open[top] = (open[top] ?? 0) - 1
    if (token.type === Type.array) enter(Number(token.value))
    else if (token.type === Type.map) {
      if (Number(token.value) > MAX_MAP_KEYS) throw new RangeError('too many keys')
      enter(Number(token.value) * 2)
    }
    return token
  }
  return { next, done: () => tokenizer.done(), pos: () => tokenizer.pos() } as Tokenizer
}

/** Undefined fields are left out. Throws a TypeError on what CBOR cannot hold: the caller's bug. */
export function encodeMessage(message: ClientMessage | ServerMessage): Uint8Array {
  return encode(message, { ignoreUndefinedProperties: true })
}

export type Decoded<Message> =
  | { readonly ok: true; readonly messages: Message[] }
  /** The bytes are not CBOR as this protocol writes it. */
  | { readonly ok: false; readonly code: 'bad_frame' }
  /** `field` is the path of the first field that does not fit. */
  | { readonly ok: false; readonly code: 'invalid_message'; readonly field: string }

function decodeMessages<Message>(schema: z.ZodType<Message>, sender: Sender, payload: Uint8Array): Decoded<Message> {
  let decoded: unknown
  try {
    decoded = decode(payload, { ...DECODE_OPTIONS, tokenizer: createBoundedTokenizer(payload, MAX_TOKENS[sender]) })
  } catch {
    return { ok: false, code: 'bad_frame' }
  }
  const candidates = Array.isArray(decoded) ? decoded : [decoded]
  if (candidates.length === 0 || candidates.length > MAX_MESSAGES) return { ok: false, code: 'bad_frame' }
  const messages: Message[] = []
  for (const candidate of candidates) {
    const parsed = schema.safeParse(candidate)
    if (!parsed.success) return { ok: false, code: 'invalid_message', field: describePath(parsed.error) }
    messages.push(parsed.data)
  }
  return { ok: true, messages }
}

/** Field names of the schema and indexes only: a key that the peer made up is reported as its parent. */
function describePath(error: z.ZodError): string {
  const path = error.issues[0]?.path ?? []
  return path.length === 0 ? 'message' : path.map(String).join('.').slice(0, 64)
}

export const decodeClientMessages = (payload: Uint8Array): Decoded<ClientMessage> =>
  decodeMessages(clientMessage, 'client', payload)

export const decodeServerMessages = (payload: Uint8Array): Decoded<ServerMessage> =>
  decodeMessages(serverMessage, 'server', payload)
