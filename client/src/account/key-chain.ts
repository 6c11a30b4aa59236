// Reads a server's changes of key and follows them from a pin: page by page, each link verified, within bounds.

import {
  type Crypto,
  decodeUtf8,
  equalBytes,
  followServerKeys,
  fromBase64Url,
  MAX_KEY_CHANGES,
  MAX_KEY_CHANGES_PAGE,
  openServerKeyChange,
  type ServerKeyFault,
  type ServerKeyPin,
  serverFingerprint,
  toBase64Url,
} from '@valise/protocol'
import { z } from 'zod'
import type { AlarmCode } from '../alarm.ts'
import { type Http, httpUrlOf } from '../http.ts'

export type ChainOutcome =
  /** The pin after all changes; the same as before when there are none. */
  | { readonly type: 'followed'; readonly pin: ServerKeyPin; readonly changes: number }
  /** The server cannot be asked right now. */
  | { readonly type: 'unread' }
  | { readonly type: 'alarm'; readonly code: AlarmCode }

const ALARM_OF: Readonly<Record<ServerKeyFault, AlarmCode>> = {
  invalid: 'server_keys_invalid',
  forked: 'server_key_forked',
  wrong_next: 'server_next_key_changed',
}

/** More requests than a full chain needs: a server that sends small pages cannot keep a client asking. */
const MAX_PAGES = (2 * MAX_KEY_CHANGES) / MAX_KEY_CHANGES_PAGE

const keyPage = z.strictObject({ changes: z.array(z.string()).max(MAX_KEY_CHANGES_PAGE) })

export interface ChainParts {
  readonly crypto: Crypto
  readonly http: Http
  readonly serverUrl: string
  readonly signal?: AbortSignal | undefined
}

/** Rejects only when the signal aborts. */
export async function followKeyChain(parts: ChainParts, pin: ServerKeyPin): Promise<ChainOutcome> {
  let current = pin
  let changes = 0
  for (let page = 0; page < MAX_PAGES; page++) {
    const read = await readPage(parts, current.fingerprint)
    if (read === 'unread') return { type: 'unread' }
    if (read === undefined) return { type: 'alarm', code: 'server_keys_invalid' }
    if (read.length === 0) return { type: 'followed', pin: current, changes }
    changes += read.length
    if (changes > MAX_KEY_CHANGES) break
    const followed = followServerKeys(parts.crypto, current, read)
    if (!followed.ok) return { type: 'alarm', code: ALARM_OF[followed.fault] }
    current = followed.pin
  }
  return { type: 'alarm', code: 'server_keys_invalid' }
}

/** Whether signed changes lead from one key to another. The key at the end has signed the last of them itself. */
export async function leadsToKey(parts: ChainParts, from: Uint8Array, to: Uint8Array): Promise<boolean> {
  const page = await readPage(parts, from)
  const [first] = Array.isArray(page) ? page : []
  const change = first === undefined ? undefined : openServerKeyChange(parts.crypto, first)
  if (change === undefined) return false
  const nextFingerprint = serverFingerprint(parts.crypto, change.newPublicKey)
  const outcome = await followKeyChain(parts, { fingerprint: from, nextFingerprint })
  return outcome.type === 'followed' && pinsOf(outcome.pin).some(({ fingerprint }) => equalBytes(fingerprint, to))
}

/** `undefined` for an answer that is no page of changes. A server without such a page has made none. */
async function readPage(
  { http, serverUrl, signal }: ChainParts,
  fingerprint: Uint8Array,
): Promise<readonly Uint8Array[] | 'unread' | undefined> {
  const url = `${httpUrlOf(serverUrl)}/.well-known/valise/keys?after=${toBase64Url(fingerprint)}`
  const response = await http({ method: 'GET', url, ...(signal === undefined ? {} : { signal }) }).catch(() => {
    signal?.throwIfAborted()
    return undefined
  })
  if (response === undefined || response.status === 429 || response.status >= 500) return 'unread'
  if (response.status === 404) return []
  const parsed = response.status === 200 ? parsePage(response.body) : undefined
  const changes = parsed?.changes.map(fromBase64Url)
  return changes?.every((change) => change !== undefined) === true ? changes : undefined
}

function parsePage(body: Uint8Array): z.infer<typeof keyPage> | undefined {
  try {
    return keyPage.safeParse(JSON.parse(decodeUtf8(body) ?? '')).data
  } catch {
    return undefined
  }
}

/** The pin as it stood at each key that was followed, the newest first. */
export function pinsOf<Pin extends ServerKeyPin>(pin: Pin): Pin[] {
  const path = [...(pin.retired ?? []), pin.fingerprint]
  const earlier = path.slice(0, -1).map((fingerprint, index) => ({
    ...pin,
    fingerprint,
    nextFingerprint: path[index + 1],
    retired: path.slice(0, index),
  }))
  return [pin, ...earlier.reverse()]
}

export const isSameKey = (a: ServerKeyPin, b: ServerKeyPin): boolean => equalBytes(a.fingerprint, b.fingerprint)

/** Whether a pin may stand in the place of an earlier one: the same key, or one that the earlier is known to lead to. */
export const continuesKey = (pin: ServerKeyPin, earlier: ServerKeyPin): boolean =>
  isSameKey(pin, earlier) ||
  (earlier.nextFingerprint !== undefined && equalBytes(earlier.nextFingerprint, pin.fingerprint)) ||
  (pin.retired ?? []).some((retired) => equalBytes(retired, earlier.fingerprint))

/** Whether a pin allows what another device has pinned: it may not know the next key yet. */
export const agreesOnKeys = (pin: ServerKeyPin, other: ServerKeyPin): boolean =>
  isSameKey(pin, other) &&
  (pin.nextFingerprint === undefined ||
    (other.nextFingerprint !== undefined && equalBytes(pin.nextFingerprint, other.nextFingerprint)))
