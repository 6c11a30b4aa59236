// The changes of key as the database holds them: public, signed, one for each key that was changed.

import {
  type Crypto,
  equalBytes,
  openServerKeyChange,
  parseServerKeyChange,
  serverFingerprint,
  toHex,
} from '@valise/protocol'
import type { Queryable } from '../db/postgres.ts'
import { insertKeyChange, readKeyChanges } from '../db/queries/key-changes.ts'
import { IdentityError } from './identity-file.ts'

export interface KeyChange {
  readonly oldFingerprint: Uint8Array
  readonly newFingerprint: Uint8Array
  readonly nextFingerprint: Uint8Array
  readonly bytes: Uint8Array
}

/** Changes by the key that they replace, in hexadecimal. */
export type KeyChanges = ReadonlyMap<string, KeyChange>

/** `undefined` for bytes that are none. Its signatures are not looked at. */
export function describeKeyChange(crypto: Crypto, bytes: Uint8Array): KeyChange | undefined {
  const change = parseServerKeyChange(bytes)
  return (
    change && {
      oldFingerprint: serverFingerprint(crypto, change.oldPublicKey),
      newFingerprint: serverFingerprint(crypto, change.newPublicKey),
      nextFingerprint: change.nextFingerprint,
      bytes,
    }
  )
}

/** Rejects as the database does. */
export async function loadKeyChanges(crypto: Crypto, db: Queryable): Promise<KeyChanges> {
  const rows = await readKeyChanges(db)
  const changes = rows.flatMap((bytes) => describeKeyChange(crypto, bytes) ?? [])
  return new Map(changes.map((change) => [toHex(change.oldFingerprint), change]))
}

/**
 * Adds a change, once however often it is asked. Rejects with an `IdentityError` for one that clients would take for an
 * alarm: not signed, against what the change before named, or a second one of the same key.
 */
export async function publishKeyChange(crypto: Crypto, db: Queryable, bytes: Uint8Array): Promise<void> {
  const change = openServerKeyChange(crypto, bytes) && describeKeyChange(crypto, bytes)
  if (change === undefined) throw new IdentityError('the change of the key is not signed by both keys')
  const before = [...(await loadKeyChanges(crypto, db)).values()].find(({ newFingerprint }) =>
    equalBytes(newFingerprint, change.oldFingerprint),
  )
  if (before !== undefined && !equalBytes(before.nextFingerprint, change.newFingerprint)) {
    throw new IdentityError('the change leads to another key than the change before it named')
  }
  await insertKeyChange(db, change.oldFingerprint, bytes)
  const stored = (await loadKeyChanges(crypto, db)).get(toHex(change.oldFingerprint))
  if (stored !== undefined && equalBytes(stored.bytes, bytes)) return
  throw new IdentityError(
    'another change of the same key is published already, and clients follow that one: use the identity.key that it left on the other machine',
  )
}
