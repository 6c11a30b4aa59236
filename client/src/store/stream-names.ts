// The names of the streams that this device has used, sealed at rest; the server knows none of them.

import { decodeUtf8, encodeUtf8, type StreamId } from '@valise/protocol'
import type { AtRestSealer } from './at-rest.ts'
import { keysUnder, storeKeys } from './layout.ts'
import { put, type Store } from './store.ts'

export interface StreamNamesParts {
  readonly store: Store
  readonly sealer: AtRestSealer
  readonly epochKeys: { streamId(name: string): StreamId | undefined }
}

/** Resolves when the name is kept; at once for one that was kept before, or while its id cannot be known. */
export function createNameKeeper({ store, sealer, epochKeys }: StreamNamesParts): (name: string) => Promise<void> {
  const kept = new Set<string>()
  return async (name) => {
    const streamId = kept.has(name) ? undefined : epochKeys.streamId(name)
    if (streamId === undefined) return
    const key = storeKeys.streamName(streamId)
    await store.batch([put(key, sealer.seal(key, encodeUtf8(name)))])
    kept.add(name)
  }
}

/** By stream id in hexadecimal. */
export async function readStreamNames({
  store,
  sealer,
}: Omit<StreamNamesParts, 'epochKeys'>): Promise<Map<string, string>> {
  const names = new Map<string, string>()
  for await (const [key, sealed] of store.range(keysUnder('name/'))) {
    const name = decodeUtf8(sealer.open(key, sealed))
    if (name !== undefined) names.set(key.slice('name/'.length), name)
  }
  return names
}
