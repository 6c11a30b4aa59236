// The key that this node proves, and the changes that lead to it. It takes a new key from the identity file while it runs,
// after the change is in the database: a client that meets the new key finds the signed change at any node.

import { type Crypto, equalBytes, fromBase64Url, MAX_KEY_CHANGES_PAGE, toBase64Url, toHex } from '@valise/protocol'
import { readPrivateFile } from '../files/private-file.ts'
import { readIdentity, type ServerIdentity } from '../identity.ts'
import type { Log } from '../telemetry/log.ts'
import { IdentityError } from './identity-file.ts'
import { describeKeyChange, type KeyChange, type KeyChanges } from './key-changes.ts'

export interface ServerKeysParts {
  readonly crypto: Crypto
  readonly file: string
  readonly identity: ServerIdentity
  readonly log: Log
  load(): Promise<KeyChanges>
  /** Rejects with an `IdentityError` for a change that must not be published. */
  publish(change: Uint8Array): Promise<void>
  /** This node proves another key from now on. */
  onChange(): void
}

export interface ServerKeys {
  readonly current: ServerIdentity
  /** The key of this node was changed on another one: it must get the new `identity.key`. */
  readonly isStale: boolean
  /** Compares with file and database. Never rejects. */
  check(): Promise<void>
  /** The changes from a key on, oldest first: one page. Rejects when the database is needed and out of reach. */
  changesAfter(fingerprint: Uint8Array): Promise<readonly Uint8Array[]>
}

/** Rejects with an `IdentityError` when the key of this node was changed already, and as the database does. */
export async function openServerKeys(parts: ServerKeysParts): Promise<ServerKeys> {
  const { crypto, file, log } = parts
  let current = parts.identity
  if (current.change !== undefined) await parts.publish(current.change)
  let changes = await parts.load()
  if (isReplaced(current)) {
    throw new IdentityError(
      `${file} holds a key that was changed: copy the identity.key of the node on which rotate-key ran to this one`,
    )
  }
  let seenText = await readPrivateFile(file)
  let wasStale = false

  function isReplaced({ fingerprint }: ServerIdentity): boolean {
    return changes.has(toHex(fingerprint))
  }
  /** Whether the published changes, and this one after them, lead from the key of this node to the other. */
  const isSuccessor = (fingerprint: Uint8Array, last: KeyChange | undefined): boolean => {
    let at = current.fingerprint
    for (let step = 0; step <= changes.size; step++) {
      if (equalBytes(at, fingerprint)) return true
      const isLast = last !== undefined && equalBytes(last.oldFingerprint, at)
      const change = changes.get(toHex(at)) ?? (isLast ? last : undefined)
      if (change === undefined) return false
      at = change.newFingerprint
    }
    return equalBytes(at, fingerprint)
  }
  /** A file that cannot be used changes nothing: it may be half copied. */
  const takeFile = async (text: string): Promise<void> => {
    const next = readIdentity(crypto, file, text)
    if (equalBytes(next.fingerprint, current.fingerprint)) return
    changes = await parts.load()
    const change = next.change && describeKeyChange(crypto, next.change)
    if (!isSuccessor(next.fingerprint, change)) {
      throw new IdentityError(`${file} holds a key to which no signed change leads`)
    }
    if (next.change !== undefined) await parts.publish(next.change)
    changes = await parts.load()
    current = next
    log.info(
      { event: 'identity.key.change', fingerprint: toBase64Url(current.fingerprint) },
      'The server has a new key: this node proves it from now on',
    )
    parts.onChange()
  }
  const look = async (): Promise<void> => {
    const text = await readPrivateFile(file)
    if (text !== undefined && text !== seenText) {
      await takeFile(text)
      seenText = text
    }
    changes = await parts.load()
    const isStale = isReplaced(current)
    if (isStale && !wasStale) {
      log.warn({ event: 'identity.key.lag' }, `The key of this node was changed: copy the new identity.key to ${file}`)
    }
    wasStale = isStale
  }
  let refusedText: string | undefined
  const check = async (): Promise<void> => {
    try {
      await look()
      refusedText = undefined
    } catch (error) {
      const message = error instanceof Error ? error.message : 'unknown'
      // Said once, not at each look.
      if (message !== refusedText) log.warn({ event: 'identity.file.refuse', err: error }, `The key stays: ${message}`)
      refusedText = message
    }
  }
  /** Reads that begin after they are asked for, and never two at once. */
  let reading: Promise<void> = Promise.resolve()
  let queued: Promise<void> | undefined
  const reload = (): Promise<void> => {
    queued ??= reading
      .catch(() => {})
      .then(() => {
        queued = undefined
        reading = parts.load().then((loaded) => {
          changes = loaded
        })
        return reading
      })
    return queued
  }
  const pageAfter = (fingerprint: Uint8Array): Uint8Array[] => {
    const page: Uint8Array[] = []
    for (let at = fingerprint; page.length < MAX_KEY_CHANGES_PAGE; ) {
      const change = changes.get(toHex(at))
      if (change === undefined) break
      page.push(change.bytes)
      at = change.newFingerprint
    }
    return page
  }

  let checking: Promise<void> = Promise.resolve()
  return {
    get current() {
      return current
    },
    get isStale() {
      return isReplaced(current)
    },
    check: () => {
      checking = checking.then(check)
      return checking
    },
    changesAfter: async (fingerprint) => {
      const known = pageAfter(fingerprint)
      if (known.length > 0) return known
      // Another node may have made a change that this one has not seen.
      await reload()
      return pageAfter(fingerprint)
    },
  }
}

/** The `after` of a request for changes; `undefined` when it is no fingerprint. */
export function parseAfter(url: URL): Uint8Array | undefined {
  const fingerprint = fromBase64Url(url.searchParams.get('after') ?? '')
  return fingerprint?.length === 32 ? fingerprint : undefined
}
