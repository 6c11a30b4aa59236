// Learns a server's fingerprint: the one a person gives, or the one the server names when first asked, trusted from then on.

import { decodeUtf8, fromBase64Url } from '@valise/protocol'
import { z } from 'zod'
import { type Http, httpUrlOf } from '../http.ts'
import type { ServerPin } from './identity.ts'
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
  registration: z.enum(['open', 'invite', 'closed']).optional(),
})

/** Throws a `SetupError` unless it is base64url of 32 bytes. */
export function parseFingerprint(text: string): Uint8Array {
  const bytes = fromBase64Url(text)
  if (bytes?.length === FINGERPRINT_BYTES) return bytes
  throw new SetupError('bad_fingerprint', "A server's fingerprint has 43 characters: letters, digits, - and _.")
}

/** Throws a `SetupError` for anything but ws:// and wss:// addresses. */
export function checkServerUrl(serverUrl: string): string {
  const httpUrl = httpUrlOf(serverUrl)
  if (httpUrl !== undefined) return httpUrl
  throw new SetupError('bad_server_url', "A server's address looks like ws://127.0.0.1:8787 or wss://example.org.")
}

export interface FirstContact {
  readonly serverUrl: string
  /** base64url; without it the server's own word is taken. */
  readonly fingerprint: string | undefined
  readonly signal: AbortSignal | undefined
}

export interface Contacted {
  readonly server: ServerPin
  /** Who may make a new user there; undefined when the server was not asked, or did not say. */
  readonly registration: 'open' | 'invite' | 'closed' | undefined
}

/** A server whose fingerprint is given is not asked. */
export async function contactServer(http: Http, { serverUrl, fingerprint, signal }: FirstContact): Promise<Contacted> {
  const httpUrl = checkServerUrl(serverUrl)
  if (fingerprint !== undefined) {
    return { server: { url: serverUrl, fingerprint: parseFingerprint(fingerprint) }, registration: undefined }
  }
  const response = await http({
    method: 'GET',
    url: `${httpUrl}/.well-known/valise`,
    ...(signal === undefined ? {} : { signal }),
  }).catch((error: unknown) => {
    if (signal?.aborted === true) throw new SetupError('aborted', 'Given up.', { cause: error })
    throw new SetupError('server_unreachable', `No server answers at ${serverUrl}.`, { cause: error })
  })
  const info = response.status === 200 ? parseServerInfo(response.body) : undefined
  if (info === undefined) throw new SetupError('wrong_server', `What answers at ${serverUrl} is no Valise server.`)
  return { server: { url: serverUrl, fingerprint: info.fingerprint }, registration: info.registration }
}

function parseServerInfo(body: Uint8Array): z.infer<typeof serverInfo> | undefined {
  try {
    return serverInfo.safeParse(JSON.parse(decodeUtf8(body) ?? '')).data
  } catch {
    return undefined
  }
}
