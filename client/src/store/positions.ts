// How far an application has read, by a name of its own.

import { storeKeys } from './layout.ts'
import { encodeCounter, parseCounter } from './records.ts'
import { put, type Store, type StoreOperation } from './store.ts'

export const savePosition = (name: string, userSeq: number): StoreOperation =>
  put(storeKeys.position(name), encodeCounter(userSeq))

const readCounter = async (store: Store, key: string): Promise<number> => {
  const value = await store.get(key)
  return value === undefined ? 0 : parseCounter(key, value)
}

/** 0 when never saved. */
export const readPosition = (store: Store, name: string): Promise<number> =>
  readCounter(store, storeKeys.position(name))

/** How far it had read of a log that the server lost; 0 when it lost none. */
export const readBefore = (store: Store, name: string): Promise<number> =>
  readCounter(store, storeKeys.readBefore(name))
