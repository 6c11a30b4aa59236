// The server's identity: an Ed25519 key and the one that will follow it, both made at the first start and never later. The
// first signs handshakes; the other is needed for a change of key alone. All nodes of one server use the same file.

import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { type Crypto, type Signer, serverFingerprint } from '@valise/protocol'
import { readPrivateFile } from './files/private-file.ts'
import {
  createPrivate,
  createSeed,
  formatIdentity,
  formatNextKey,
  IdentityError,
  nextFileOf,
  parseIdentity,
  parseNextKey,
} from './keys/identity-file.ts'

/** Where the next key is: beside this one, somewhere else, or a file that holds another key. */
export type NextKeyPlace = 'here' | 'away' | 'other'

export interface ServerIdentity {
  readonly signer: Signer
  /** SHA-256 of the public key: what clients pin. */
  readonly fingerprint: Uint8Array
  /** SHA-256 of the next public key, pinned with it. */
  readonly nextFingerprint: Uint8Array
  /** The signed change by which this key came. */
  readonly change: Uint8Array | undefined
}

export interface OpenedIdentity extends ServerIdentity {
  readonly isNew: boolean
  readonly nextKey: NextKeyPlace
}

/** Rejects with an `IdentityError`, or with a `PrivateFileError` for a file that others can read or replace. */
export async function openIdentity(crypto: Crypto, file: string): Promise<OpenedIdentity> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 })
  const isNew = (await readPrivateFile(file)) === undefined && (await makeIdentity(crypto, file))
  const identity = readIdentity(crypto, file, await awaitIdentity(file))
  return { ...identity, isNew, nextKey: await findNextKey(crypto, file, identity.nextFingerprint) }
}

/** From the text of `identity.key`. Throws an `IdentityError`. */
export function readIdentity(crypto: Crypto, file: string, text: string): ServerIdentity {
  const record = parseIdentity(text)
  if (record === undefined) {
    throw new IdentityError(
      text.startsWith('valise-identity-1 ')
        ? `${file} was made by an earlier version and names no next key; move it away, and the server makes new keys that every device must be told to trust (valise trust)`
        : `${file} is not an identity file; restore it from a backup, or clients that pinned it are lost`,
    )
  }
  const signer = crypto.createSigner(record.seed)
  record.seed.fill(0)
  const { nextFingerprint, change } = record
  return { signer, fingerprint: serverFingerprint(crypto, signer.publicKey), nextFingerprint, change }
}

/** Only looks. Rejects with a `PrivateFileError` when others can read the next key. */
export async function findNextKey(crypto: Crypto, file: string, nextFingerprint: Uint8Array): Promise<NextKeyPlace> {
  const text = await readPrivateFile(nextFileOf(file))
  if (text === undefined) return 'away'
  const seed = parseNextKey(text)
  if (seed === undefined) return 'other'
  const { publicKey } = crypto.createSigner(seed)
  seed.fill(0)
  return Buffer.from(serverFingerprint(crypto, publicKey)).equals(nextFingerprint) ? 'here' : 'other'
}

/** For the operator, at each start. */
export function describeNextKey(file: string, place: NextKeyPlace): string {
  const nextFile = nextFileOf(file)
  switch (place) {
    case 'here':
      return `The next key lies beside the identity key. Move ${nextFile} to a safe place on another machine: anyone who copies both can take the server over`
    case 'away':
      return `The next key is not on this machine, as it should be. Make sure that you have its file: without it the key cannot be changed, and none is made in its place`
    case 'other':
      return `${nextFile} is not the next key of this identity. Look for the right one: without it the key cannot be changed, and none is made in its place`
  }
}

/** The next key first: an identity names it. False when another node makes both at this moment. */
async function makeIdentity(crypto: Crypto, file: string): Promise<boolean> {
  const [seed, nextSeed] = [createSeed(), createSeed()]
  try {
    if (!(await createPrivate(nextFileOf(file), formatNextKey(nextSeed)))) return false
    const nextFingerprint = serverFingerprint(crypto, crypto.createSigner(nextSeed).publicKey)
    return await createPrivate(file, formatIdentity({ seed, nextFingerprint, change: undefined }))
  } finally {
    seed.fill(0)
    nextSeed.fill(0)
  }
}

/** Another node that makes the keys needs a moment between the two. */
const MAKING_MS = 2000
const LOOK_MS = 20

async function awaitIdentity(file: string): Promise<string> {
  for (let waitedMs = 0; waitedMs <= MAKING_MS; waitedMs += LOOK_MS) {
    const text = await readPrivateFile(file)
    if (text !== undefined) return text
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
  }
  throw new IdentityError(
    `${file} is not there, but ${nextFileOf(file)} is: restore the first from a backup, or clients that pinned it are lost; for a server that nobody uses yet, move the second away`,
  )
}
