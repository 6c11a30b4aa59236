// Changes the server's key in its files. Each step leaves a state from which the server runs and the change can be
// finished: the key after the next one is on the disk before the identity names it, and the identity changes in one step.

import { rename, rm } from 'node:fs/promises'
import { type Crypto, encodeServerKeyChange, serverFingerprint, signServerKeyChange } from '@valise/protocol'
import { readPrivateFile } from '../files/private-file.ts'
import { readIdentity } from '../identity.ts'
import {
  createPrivate,
  createSeed,
  draftFileOf,
  formatIdentity,
  formatNextKey,
  IdentityError,
  nextFileOf,
  parseNextKey,
  replacePrivate,
  syncFolder,
} from './identity-file.ts'

export interface RotatedKey {
  /** SHA-256 of the key before; undefined when this call only finished an interrupted change. */
  readonly from: Uint8Array | undefined
  readonly fingerprint: Uint8Array
  readonly nextFingerprint: Uint8Array
  /** Encoded and signed by both keys. */
  readonly change: Uint8Array
  /** Where the next key was written. */
  readonly nextFile: string
}

/** `nextFile`: where the next key is kept; without it beside the identity file. Rejects with an `IdentityError`. */
export async function rotateKey(crypto: Crypto, identityFile: string, nextFile?: string): Promise<RotatedKey> {
  const text = await readPrivateFile(identityFile)
  if (text === undefined) throw new IdentityError(`${identityFile} is not there: name the server's folder with --data`)
  const finished = await finishInterrupted(crypto, identityFile, text)
  if (finished !== undefined) return finished
  const identity = readIdentity(crypto, identityFile, text)
  const { seed, signer } = await readNextKey(crypto, nextFile ?? nextFileOf(identityFile), identity.nextFingerprint)
  const draft = draftFileOf(identityFile)
  const nextSeed = createSeed()
  try {
    const nextFingerprint = serverFingerprint(crypto, crypto.createSigner(nextSeed).publicKey)
    if (!(await createPrivate(draft, formatNextKey(nextSeed)))) throw draftIsThere(draft)
    // The draft is the lock. A call that held it meanwhile has changed the key that was read above.
    if ((await readPrivateFile(identityFile)) !== text) {
      await rm(draft, { force: true })
      throw new IdentityError('another rotate-key has just changed the key: nothing was done')
    }
    const change = encodeServerKeyChange(await signServerKeyChange(identity.signer, signer, nextFingerprint))
    await replacePrivate(identityFile, formatIdentity({ seed, nextFingerprint, change }))
    const written = await adoptDraft(identityFile)
    const fingerprint = serverFingerprint(crypto, signer.publicKey)
    return { from: identity.fingerprint, fingerprint, nextFingerprint, change, nextFile: written }
  } finally {
    seed.fill(0)
    nextSeed.fill(0)
  }
}

async function readNextKey(crypto: Crypto, file: string, nextFingerprint: Uint8Array) {
  const text = await readPrivateFile(file)
  if (text === undefined) {
    throw new IdentityError(
      `the next key is not in ${file}: name the file in which you keep it with --next FILE. Without it no change can be made that clients follow`,
    )
  }
  const seed = parseNextKey(text)
  if (seed === undefined)
    throw new IdentityError(`${file} is not the file of a next key: name the right one with --next`)
  const signer = crypto.createSigner(seed)
  if (Buffer.from(serverFingerprint(crypto, signer.publicKey)).equals(nextFingerprint)) return { seed, signer }
  seed.fill(0)
  throw new IdentityError(`${file} is a next key of another identity: name the right one with --next FILE`)
}

/** An earlier call may have ended after the identity had changed. */
async function finishInterrupted(crypto: Crypto, identityFile: string, text: string): Promise<RotatedKey | undefined> {
  const draft = draftFileOf(identityFile)
  const draftText = await readPrivateFile(draft)
  if (draftText === undefined) return undefined
  const { fingerprint, nextFingerprint, change } = readIdentity(crypto, identityFile, text)
  const seed = parseNextKey(draftText)
  const named = seed === undefined ? undefined : serverFingerprint(crypto, crypto.createSigner(seed).publicKey)
  seed?.fill(0)
  if (change === undefined || named === undefined || !Buffer.from(named).equals(nextFingerprint)) {
    throw draftIsThere(draft)
  }
  return { from: undefined, fingerprint, nextFingerprint, change, nextFile: await adoptDraft(identityFile) }
}

async function adoptDraft(identityFile: string): Promise<string> {
  const nextFile = nextFileOf(identityFile)
  await rename(draftFileOf(identityFile), nextFile).catch((error: unknown) => {
    // A call beside this one has finished it.
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
  })
  await syncFolder(nextFile)
  return nextFile
}

const draftIsThere = (draft: string): IdentityError =>
  new IdentityError(
    `${draft} is there: another rotate-key runs, or one ended before it had changed anything. If none runs, remove that file and try again`,
  )
