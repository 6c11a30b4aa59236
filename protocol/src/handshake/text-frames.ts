// The four text frames of a handshake: JSON with exactly the keys named here, bytes in canonical base64url.
// Only the bytes inside are hashed and signed; the JSON around them is a carrier. No parser here throws.

import { encodeUtf8, fromBase64Url, toBase64Url } from '../bytes.ts'

/** A hello with every suite and an ML-KEM key needs less than 2 000 characters. */
const MAX_HANDSHAKE_CHARACTERS = 4096
/** `session_established` holds limits and heads, no content. */
const MAX_ESTABLISHED_CHARACTERS = 16_384

type TextFrameType = 'client_hello' | 'server_hello' | 'client_auth' | 'session_established'

function encodeTextFrame(type: TextFrameType, fields: Readonly<Record<string, Uint8Array>>): string {
  const entries = Object.entries(fields).map(([name, bytes]) => [name, toBase64Url(bytes)])
  return JSON.stringify({ type, ...Object.fromEntries(entries) })
}

function parseJsonObject(text: string): Map<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
    return new Map(Object.entries(value))
  } catch {
    return undefined
  }
}

/** The bytes of the named fields in their order, or `undefined` unless the frame is exactly of that form. */
function parseTextFrame(
  text: string,
  type: TextFrameType,
  names: readonly string[],
  maxCharacters: number,
): Uint8Array[] | undefined {
  if (text.length > maxCharacters) return undefined
  const valueByName = parseJsonObject(text)
  if (valueByName?.get('type') !== type || valueByName.size !== names.length + 1) return undefined
  const fields: Uint8Array[] = []
  for (const name of names) {
    const value = valueByName.get(name)
    const bytes = typeof value === 'string' ? fromBase64Url(value) : undefined
    if (bytes === undefined) return undefined
    fields.push(bytes)
  }
  return fields
}

/** The associated data of the two sealed proofs: the names of the frames they travel in. */
export const SERVER_HELLO_DATA = encodeUtf8('server_hello')
export const CLIENT_AUTH_DATA = encodeUtf8('client_auth')

export const encodeClientHelloFrame = (body: Uint8Array): string => encodeTextFrame('client_hello', { body })

export function parseClientHelloFrame(text: string): Uint8Array | undefined {
  return parseTextFrame(text, 'client_hello', ['body'], MAX_HANDSHAKE_CHARACTERS)?.[0]
}

export const encodeServerHelloFrame = (body: Uint8Array, auth: Uint8Array): string =>
  encodeTextFrame('server_hello', { body, auth })

export function parseServerHelloFrame(text: string): { body: Uint8Array; auth: Uint8Array } | undefined {
  const [body, auth] = parseTextFrame(text, 'server_hello', ['body', 'auth'], MAX_HANDSHAKE_CHARACTERS) ?? []
  return body === undefined || auth === undefined ? undefined : { body, auth }
}

export const encodeClientAuthFrame = (auth: Uint8Array): string => encodeTextFrame('client_auth', { auth })

export function parseClientAuthFrame(text: string): Uint8Array | undefined {
  return parseTextFrame(text, 'client_auth', ['auth'], MAX_HANDSHAKE_CHARACTERS)?.[0]
}

/** Carries the first sealed frame of the server; binary frames only from there on. */
export const encodeSessionEstablishedFrame = (frame: Uint8Array): string =>
  encodeTextFrame('session_established', { frame })

export function parseSessionEstablishedFrame(text: string): Uint8Array | undefined {
  return parseTextFrame(text, 'session_established', ['frame'], MAX_ESTABLISHED_CHARACTERS)?.[0]
}
