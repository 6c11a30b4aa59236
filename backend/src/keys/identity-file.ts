// The two files of a server's identity, each of mode 0600: `identity.key` holds the key it signs with, the hash of the key
// that will follow and the last signed change; `identity-next.key` holds the following key. A file is whole or not there.

import { randomBytes } from 'node:crypto'
import { link, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { fromBase64Url, toBase64Url } from '@valise/protocol'

const SEED_BYTES = 32

/** The identity files cannot be used; the message says why and what to do. */
export class IdentityError extends Error {
  override readonly name = 'IdentityError'
}

export interface IdentityRecord {
  /** Its reader overwrites it. */
  readonly seed: Uint8Array
  readonly nextFingerprint: Uint8Array
  /** The signed change by which this key came; none for the first. */
  readonly change: Uint8Array | undefined
}

/** `identity.key` → `identity-next.key`, in the same folder. */
export const nextFileOf = (identityFile: string): string => `${identityFile.replace(/\.key$/, '')}-next.key`

/** Where the key after the next one stands while a change is under way. */
export const draftFileOf = (identityFile: string): string => `${nextFileOf(identityFile)}.new`

export const createSeed = (): Uint8Array => new Uint8Array(randomBytes(SEED_BYTES))

export function formatIdentity({ seed, nextFingerprint, change }: IdentityRecord): string {
  const head = `valise-identity-2 ${toBase64Url(seed)} ${toBase64Url(nextFingerprint)}\n`
  return change === undefined ? head : `${head}change ${toBase64Url(change)}\n`
}

export const formatNextKey = (seed: Uint8Array): string => `valise-identity-next-1 ${toBase64Url(seed)}\n`

/** `undefined` for any other text. */
export function parseIdentity(text: string): IdentityRecord | undefined {
  const [, seedText, nextText, changeText] =
    /^valise-identity-2 ([A-Za-z0-9_-]{43}) ([A-Za-z0-9_-]{43})\n(?:change ([A-Za-z0-9_-]+)\n)?$/.exec(text) ?? []
  const seed = seedText === undefined ? undefined : fromBase64Url(seedText)
  const nextFingerprint = nextText === undefined ? undefined : fromBase64Url(nextText)
  const change = changeText === undefined ? undefined : fromBase64Url(changeText)
  if (seed === undefined || nextFingerprint === undefined) return undefined
  return (changeText === undefined) === (change === undefined) ? { seed, nextFingerprint, change } : undefined
}

/** `undefined` for any other text. Its reader overwrites it. */
export function parseNextKey(text: string): Uint8Array | undefined {
  const encoded = /^valise-identity-next-1 ([A-Za-z0-9_-]{43})\n$/.exec(text)?.[1]
  return encoded === undefined ? undefined : fromBase64Url(encoded)
}

/** False when the file is there already. Of two that make it at once one succeeds, and nobody reads a part of it. */
export async function createPrivate(path: string, text: string): Promise<boolean> {
  const draft = await writeDraft(path, text)
  try {
    await link(draft, path)
    await syncFolder(path)
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false
    throw new IdentityError(`cannot write the identity file: ${error instanceof Error ? error.message : 'unknown'}`)
  } finally {
    await rm(draft, { force: true })
  }
}

export async function replacePrivate(path: string, text: string): Promise<void> {
  const draft = await writeDraft(path, text)
  await rename(draft, path)
  await syncFolder(path)
}

async function writeDraft(path: string, text: string): Promise<string> {
  const draft = `${path}.${randomBytes(8).toString('hex')}`
  try {
    const handle = await open(draft, 'wx', 0o600)
    try {
      await handle.write(text)
      await handle.sync()
    } finally {
      await handle.close()
    }
    return draft
  } catch (error) {
    throw new IdentityError(`cannot write the identity file: ${error instanceof Error ? error.message : 'unknown'}`)
  }
}

/** A name in a folder lasts when the folder is on the disk. Not every platform opens folders. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(dirname(path), 'r').catch(() => undefined)
  await folder?.sync().catch(() => {})
  await folder?.close()
}
