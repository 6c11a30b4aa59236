// The port to what a device remembers: an ordered map of text keys with atomic, durable batches.
// Memory and file implementations pass one contract suite (client/tests/store.test.ts).

export type StoreOperation =
  | { readonly type: 'put'; readonly key: string; readonly value: Uint8Array }
  | { readonly type: 'delete'; readonly key: string }

/** Bounds compare keys by their UTF-8 bytes. */
export interface StoreRange {
  readonly gt?: string
  readonly gte?: string
  readonly lt?: string
  readonly lte?: string
  readonly limit?: number
  readonly reverse?: boolean
}

export interface Store {
  get(key: string): Promise<Uint8Array | undefined>
  /** All or nothing, and durable when it resolves. */
  batch(operations: readonly StoreOperation[]): Promise<void>
  /** In key order, over the state as it was when the iteration began. */
  range(range: StoreRange): AsyncIterable<readonly [string, Uint8Array]>
  /** Where the medium keeps what was deleted or replaced for a while: forgets it for the keys from the first to the last. */
  compact?(first: string, last: string): Promise<void>
  close(): Promise<void>
}

export const put = (key: string, value: Uint8Array): StoreOperation => ({ type: 'put', key, value })
export const del = (key: string): StoreOperation => ({ type: 'delete', key })
