// Changes the key of a configured server: in its files, then in its database, which a running server may hold.

import { toBase64Url } from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import type { Config } from '../config.ts'
import { readPrivateFile } from '../files/private-file.ts'
import { IdentityError, parseIdentity } from '../keys/identity-file.ts'
import { type RotatedKey, rotateKey } from '../keys/rotate-key.ts'
import { keyChangeCommand } from './key-change-command.ts'
import { operate } from './operator.ts'

export interface RotatedServerKey extends RotatedKey {
  /** Why the database does not have the change yet: a server publishes it when it reads the file. */
  readonly unpublished: string | undefined
}

/** `nextFile` as for `rotateKey`. Rejects with words fit to show, and has then changed nothing. */
export async function rotateServerKey(config: Config, nextFile?: string): Promise<RotatedServerKey> {
  await publishEarlier(config)
  const rotated = await rotateKey(nodeCrypto, config.identityFile, nextFile)
  return { ...rotated, unpublished: await publish(config, rotated.change) }
}

/** The file holds one change. The one before it must be where clients find it, or they could not follow over both. */
async function publishEarlier(config: Config): Promise<void> {
  const text = await readPrivateFile(config.identityFile)
  const record = text === undefined ? undefined : parseIdentity(text)
  record?.seed.fill(0)
  const problem = record?.change === undefined ? undefined : await publish(config, record.change)
  if (problem === undefined) return
  throw new IdentityError(`the change before this one is not published, so the key cannot be changed again: ${problem}`)
}

/** Why it is not published; `undefined` when it is. */
async function publish(config: Config, change: Uint8Array): Promise<string | undefined> {
  try {
    const { refusal } = await operate(config, keyChangeCommand, { change: toBase64Url(change) })
    return refusal ?? undefined
  } catch (error) {
    return error instanceof Error ? error.message : 'unknown error'
  }
}
