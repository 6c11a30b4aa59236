// Learns a server's fingerprint: the one a person gives, or the one the server names when first asked, trusted from then on.

import { type Crypto, decodeUtf8, fromBase64Url, HTTP_ERRORS, type ServerKeyPin, toBase64Url } from '@valise/protocol'
import { z } from 'zod'
import { ClientStoppedError, createAlarm } from '../alarm.ts'
import { ConnectError } from '../connect-problem.ts'
import { type Http, httpUrlOf } from '../http.ts'
import type { ServerPin } from './identity.ts'
import { type ChainParts, followKeyChain, isSameKey } from './key-chain.ts'
import { SetupError } from './setup-error.ts'

const FINGERPRINT_BYTES = 32

const key = z.string().transform((text, context) => {
  const bytes = fromBase64Url(text)
  if (bytes?.length === FINGERPRINT_BYTES) return bytes
  context.addIssue({ code: 'custom', message: 'expected base64url of 32 bytes' })
  return z.NEVER
})
const serverInfo = z.object({
  server_id: key,
  fingerprint: key,
  next_fingerprint: key,
  registration: z.enum(['open', 'invite', 'closed']).optional(),
})

/**
 * What an operator or a recovery sheet names: a fingerprint, or two joined by a dot, the second the next key's. Throws a
 * `SetupError` for anything else.
 */
export function parseFingerprint(text: string): ServerKeyPin {
  const [fingerprint, nextFingerprint, ...more] = text.trim().split('.').map(fromBase64Url)
  const isNext = nextFingerprint === undefined || nextFingerprint.length === FINGERPRINT_BYTES
  const isWhole = more.length === 0 && (nextFingerprint !== undefined) === text.includes('.')
  if (fingerprint?.length === FINGERPRINT_BYTES && isNext && isWhole) return { fingerprint, nextFingerprint }
  throw new SetupError(
    'bad_fingerprint',
    "A server's fingerprint has 43 characters: letters, digits, - and _. The next key's may follow it after a dot.",
  )
}

/** Throws a `SetupError` for anything but ws:// and wss:// addresses. */
export function checkServerUrl(serverUrl: string): string {
  const httpUrl = httpUrlOf(serverUrl)
  if (httpUrl !== undefined) return httpUrl
  throw new SetupError('bad_server_url', "A server's address looks like ws://127.0.0.1:8787 or wss://example.org.")
}

export interface ContactParts {
  readonly http: Http
  readonly crypto: Crypto
}

export interface FirstContact {
  readonly serverUrl: string
  /** As `parseFingerprint` takes it; without it the server's own word is taken. */
  readonly fingerprint: string | undefined
  readonly signal: AbortSignal | undefined
}

export interface Contacted {
  readonly server: ServerPin
  /** Who may make a new user there; undefined when the server did not say. */
  readonly registration: 'open' | 'invite' | 'closed' | undefined
}

/** Follows the server's changes of key from a fingerprint that is given together with the next key's. */
export async function contactServer(
  { http, crypto }: ContactParts,
  { serverUrl, fingerprint, signal }: FirstContact,
): Promise<Contacted> {
  checkServerUrl(serverUrl)
  const given = fingerprint === undefined ? undefined : parseFingerprint(fingerprint)
  const info = await askServer(http, serverUrl, signal)
  const named = { fingerprint: info.fingerprint, nextFingerprint: info.next_fingerprint }
  const pin = given === undefined ? named : await settlePin({ crypto, http, serverUrl, signal }, given, named)
  return { server: { url: serverUrl, ...pin }, registration: info.registration }
}

export interface UnprovenServer {
  readonly serverUrl: string
  /** base64url, as the server prints it. */
  readonly fingerprint: string
}

/** True when a person has compared the fingerprint with the server's operator. */
export type ConfirmServer = (server: UnprovenServer) => Promise<boolean>

/**
 * First contact of a device whose server no other device vouches for: over `ws://` to another machine the server's own word
 * counts only when it is confirmed. Rejects with a `SetupError`.
 */
export async function contactAlone(
  parts: ContactParts,
  contact: FirstContact,
  confirmServer: ConfirmServer | undefined,
): Promise<Contacted> {
  const contacted = await contactServer(parts, contact)
  const { serverUrl } = contact
  if (contact.fingerprint !== undefined || !isUnprotected(serverUrl)) return contacted
  const fingerprint = toBase64Url(contacted.server.fingerprint)
  if (await confirmServer?.({ serverUrl, fingerprint })) return contacted
  throw new SetupError(
    'unverified_server',
    `${serverUrl} is on another machine, and ws:// does not prove that the right one answers. It was not trusted.`,
  )
}

/** Neither TLS nor the machine itself stands for what answers there. */
export function isUnprotected(serverUrl: string): boolean {
  const { protocol, hostname } = new URL(serverUrl)
  return protocol === 'ws:' && !/^(?:(?:.+\.)?localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname)
}

/** What the server says of itself, without proof. Rejects with a `SetupError`. */
export async function askServer(http: Http, serverUrl: string, signal: AbortSignal | undefined) {
  const response = await http({
    method: 'GET',
    url: `${checkServerUrl(serverUrl)}/.well-known/valise`,
    ...(signal === undefined ? {} : { signal }),
  }).catch((error: unknown) => {
    if (signal?.aborted === true) throw new SetupError('aborted', 'Given up.', { cause: error })
    const why = error instanceof ConnectError ? `: ${error.message}` : ''
    throw new SetupError('server_unreachable', `No server answers at ${serverUrl}${why}.`, { cause: error })
  })
  if (response.status === HTTP_ERRORS.unknown_host.status && codeOf(response.body) === 'unknown_host') {
    throw new SetupError(
      'wrong_server',
      `The server at ${serverUrl} does not answer under that name. Its operator can list the name in VALISE_ORIGINS.`,
    )
  }
  const info = response.status === 200 ? parseServerInfo(response.body) : undefined
  if (info === undefined) throw new SetupError('wrong_server', `What answers at ${serverUrl} is no Valise server.`)
  return info
}

/** The handshake proves what the server names here: until then the given fingerprint is all that counts. */
async function settlePin(parts: ChainParts, given: ServerKeyPin, named: ServerKeyPin): Promise<ServerKeyPin> {
  if (isSameKey(given, named)) return { ...named, ...(given.nextFingerprint === undefined ? {} : given) }
  if (given.nextFingerprint === undefined) return given
  const outcome = await followKeyChain(parts, given)
  switch (outcome.type) {
    case 'followed':
      return outcome.pin
    case 'alarm':
      throw new ClientStoppedError({ type: 'alarm', alarm: createAlarm(outcome.code) })
    case 'unread':
      throw new SetupError('server_unreachable', `The server at ${parts.serverUrl} cannot answer right now.`)
  }
}

const parseServerInfo = (body: Uint8Array) => serverInfo.safeParse(parseJson(body)).data

const codeOf = (body: Uint8Array) => z.object({ code: z.string() }).safeParse(parseJson(body)).data?.code

function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(decodeUtf8(body) ?? '')
  } catch {
    return undefined
  }
}
