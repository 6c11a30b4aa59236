// The server's identity: an Ed25519 key made at the first start and kept in a file of mode 0600. It signs handshakes and
// `server-key` only; all nodes of one server use the same file (PROTOCOL A, H.5).

import { randomBytes } from 'node:crypto'
import { chmod, mkdir, open, readFile, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { type Crypto, fromBase64Url, type Signer, serverFingerprint, toBase64Url } from '@valise/protocol'

export interface ServerIdentity {
  readonly signer: Signer
  /** SHA-256 of the public key: what clients pin. */
  readonly fingerprint: Uint8Array
  readonly isNew: boolean
}

const SEED_BYTES = 32

/** The identity file cannot be used; the message says why and what to do. */
export class IdentityError extends Error {
  override readonly name = 'IdentityError'
}

export async function openIdentity(crypto: Crypto, file: string): Promise<ServerIdentity> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 })
  const made = await makeSeed(file)
  const seed = made ?? (await readSeedFile(file))
  const signer = crypto.createSigner(seed)
  seed.fill(0)
  return { signer, fingerprint: serverFingerprint(crypto, signer.publicKey), isNew: made !== undefined }
}

/** `undefined` when the file is there already: `wx` makes two first starts agree on one key. */
async function makeSeed(file: string): Promise<Uint8Array | undefined> {
  try {
    const handle = await open(file, 'wx', 0o600)
    try {
      const seed = new Uint8Array(randomBytes(SEED_BYTES))
      await handle.write(`valise-identity-1 ${toBase64Url(seed)}\n`)
      await handle.sync()
      return seed
    } finally {
      await handle.close()
    }
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return undefined
    throw new IdentityError(`cannot write the identity file: ${error instanceof Error ? error.message : 'unknown'}`)
  }
}

async function readSeedFile(file: string): Promise<Uint8Array> {
  const [text, { mode }] = await Promise.all([readFile(file, 'utf8'), stat(file)])
  if ((mode & 0o077) !== 0) await chmod(file, 0o600)
  const seed = readSeed(text)
  if (seed === undefined) {
    throw new IdentityError(
      `${file} is not an identity file; restore it from a backup, or clients that pinned it are lost`,
    )
  }
  return seed
}

/** Of an identity file's text; `undefined` when it is none. Whoever asks overwrites it. */
export function readSeed(text: string): Uint8Array | undefined {
  const encoded = /^valise-identity-1 ([A-Za-z0-9_-]{43})\n$/.exec(text)?.[1]
  const seed = encoded === undefined ? undefined : fromBase64Url(encoded)
  return seed?.length === SEED_BYTES ? seed : undefined
}
