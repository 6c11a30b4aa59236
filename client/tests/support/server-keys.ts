// The keys of a test server: it can change them as an honest one does, and say about them what a lying one would.

import {
  encodeServerKeyChange,
  fromBase64Url,
  type Signer,
  serverFingerprint,
  signServerKeyChange,
  toBase64Url,
} from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import type { Http, HttpResponse } from '../../src/http.ts'

export interface TestServerKeys {
  /** What it proves: the key of this number, and the hash of the next. A test may set either. */
  signer: Signer
  nextFingerprint: Uint8Array
  /** In order; served from the one that replaces the key a client asks after. */
  changes: Uint8Array[]
  /** Instead of the honest answer to a request for changes. */
  answer: ((after: Uint8Array) => HttpResponse | Promise<HttpResponse>) | undefined
  requests: number
  /** The key of a number, whether or not it is in use yet. */
  signerOf(index: number): Signer
  fingerprintOf(index: number): Uint8Array
  /** A change as both keys sign it. */
  change(from: number, to?: number, next?: number): Promise<Uint8Array>
  /** The next key is in use, and the change is told. */
  rotate(): Promise<void>
  readonly http: Http
}

export const keysPage = (changes: readonly Uint8Array[]): HttpResponse => ({
  status: 200,
  body: new TextEncoder().encode(JSON.stringify({ changes: changes.map(toBase64Url) })),
})

export function createServerKeys(keySeed: number): TestServerKeys {
  const signerOf = (index: number): Signer =>
    crypto.createSigner(crypto.sha256(Uint8Array.of(keySeed, index >> 8, index & 255)))
  const fingerprintOf = (index: number): Uint8Array => serverFingerprint(crypto, signerOf(index).publicKey)
  let at = 0
  const keys: TestServerKeys = {
    signer: signerOf(0),
    nextFingerprint: fingerprintOf(1),
    changes: [],
    answer: undefined,
    requests: 0,
    signerOf,
    fingerprintOf,
    change: async (from, to = from + 1, next = to + 1) =>
      encodeServerKeyChange(await signServerKeyChange(signerOf(from), signerOf(to), fingerprintOf(next))),
    rotate: async () => {
      keys.changes.push(await keys.change(at))
      at += 1
      keys.signer = signerOf(at)
      keys.nextFingerprint = fingerprintOf(at + 1)
    },
    http: async ({ url }) => {
      keys.requests += 1
      const { pathname, searchParams } = new URL(url)
      const after = fromBase64Url(searchParams.get('after') ?? '')
      if (pathname !== '/.well-known/valise/keys' || after === undefined) throw new Error(`asked for ${url}`)
      if (keys.answer !== undefined) return keys.answer(after)
      const start = keys.changes.findIndex((change) =>
        Buffer.from(crypto.sha256(change.subarray(1, 33))).equals(Buffer.from(after)),
      )
      return keysPage(start === -1 ? [] : keys.changes.slice(start, start + 64))
    },
  }
  return keys
}
