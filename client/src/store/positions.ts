// How far an application has read, by a name of its own.

import { createByteReader, createByteWriter } from '@valise/protocol'
import { storeKeys } from './layout.ts'
import { put, type Store, type StoreOperation } from './store.ts'

export const savePosition = (name: string, userSeq: number): StoreOperation =>
  put(storeKeys.position(name), createByteWriter().u64(userSeq).finish())

/** 0 when never saved. */
export async function readPosition(store: Store, name: string): Promise<number> {
  const value = await store.get(storeKeys.position(name))
  return value === undefined ? 0 : createByteReader(value).u64()
}
