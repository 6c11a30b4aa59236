// The secret that the nodes of a server share through their database. Keys derive from it: for the MAC of the bus, and
// under a label of its own for whatever comes next. It has nothing to do with the identity, which may change while nodes
// of both identities run. During a change both secrets are valid: nodes first learn the new one, then seal with it.

import { createSecretKey, hkdfSync, type KeyObject, randomBytes } from 'node:crypto'
import { createPaced } from './bus/paced.ts'
import type { Queryable } from './db/database.ts'
import { insertFirstNodeSecret, type NodeSecretRow, readNodeSecrets } from './db/queries/node-secrets.ts'

/** By when every node that runs has read a new secret; only then is it used. */
const LEARN_MS = 60_000
/** How long a change takes: as long again, the old one is still accepted. */
export const SECRET_CHANGE_MS = 2 * LEARN_MS
const READ_EVERY_MS = 20_000
/** Read out of turn, when a message names an unknown number; anybody may send such messages. */
const READ_AGAIN_MS = 1000
const SECRET_BYTES = 32

/** Each use of the secret has its own key; a new use adds its label here. */
const KEY_LABELS = { bus: 'valise node key 1: bus' } as const

export const newNodeSecret = (): Uint8Array => new Uint8Array(randomBytes(SECRET_BYTES))

export interface NodeKeys {
  current(): { readonly number: number; readonly key: KeyObject }
  /** Undefined for a number that is not valid now. */
  find(number: number): KeyObject | undefined
  /** Somebody used a number that is not valid here: the database is asked soon, at most once a second. */
  noteUnknown(): void
}

interface HeldSecret {
  readonly number: number
  /** By the monotonic clock. */
  readonly madeAtMs: number
  readonly busKey: KeyObject
}

export interface NodeSecretParts {
  readonly db: Queryable
  onFailure(error: unknown): void
  monotonicMs(): number
}

export interface NodeSecret {
  readonly busKeys: NodeKeys
  /** Asks the database. Rejects as it does; what was known stays valid. */
  read(): Promise<void>
  close(): Promise<void>
}

function deriveKey(secret: Uint8Array, label: string): KeyObject {
  return createSecretKey(new Uint8Array(hkdfSync('sha256', secret, new Uint8Array(0), label, 32)))
}

/** Makes the secret at the first start. Rejects when the database cannot be asked. */
export async function openNodeSecret({ db, onFailure, monotonicMs }: NodeSecretParts): Promise<NodeSecret> {
  const hold = ({ number, secret, ageMs }: NodeSecretRow, atMs: number): HeldSecret => ({
    number,
    madeAtMs: atMs - ageMs,
    busKey: deriveKey(secret, KEY_LABELS.bus),
  })

  const ask = async (): Promise<readonly [HeldSecret, HeldSecret | undefined]> => {
    const [newest, before] = await readNodeSecrets(db)
    const atMs = monotonicMs()
    if (newest === undefined) throw new Error('the database has no node secret: was its table emptied?')
    return [hold(newest, atMs), before && hold(before, atMs)]
  }

  await insertFirstNodeSecret(db, newNodeSecret())
  let [newest, before] = await ask()
  const read = async (): Promise<void> => {
    ;[newest, before] = await ask()
  }
  const isYoungerThan = (ms: number): boolean => monotonicMs() - newest.madeAtMs < ms
  const inUse = (): HeldSecret => (before !== undefined && isYoungerThan(LEARN_MS) ? before : newest)

  const paced = createPaced<'read'>({ intervalMs: READ_AGAIN_MS, run: read, onFailure, monotonicMs })
  const timer = setInterval(() => paced.add('read'), READ_EVERY_MS).unref()

  return {
    busKeys: {
      current: () => {
        const { number, busKey: key } = inUse()
        return { number, key }
      },
      find: (number) => {
        if (number === newest.number) return newest.busKey
        return number === before?.number && isYoungerThan(SECRET_CHANGE_MS) ? before.busKey : undefined
      },
      noteUnknown: () => paced.add('read'),
    },
    read,
    close: async () => {
      clearInterval(timer)
      await paced.close()
    },
  }
}
