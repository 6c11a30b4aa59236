// A thread that seals events ahead of a run: one device's chain a request, exactly as a client seals it.

import { parentPort } from 'node:worker_threads'
import { createEventId, toDeviceId, toStreamId, toUserId } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { encodeContent } from '../../client/src/sealing/content.ts'
import { sealEvent } from '../../client/src/sealing/event-seal.ts'
import { encodeWireElement } from './messages.ts'

export interface SealRequest {
  readonly id: number
  readonly userId: Uint8Array
  readonly deviceId: Uint8Array
  readonly streamId: Uint8Array
  readonly signSeed: Uint8Array
  readonly contentKey: Uint8Array
  /** chain_0 of the device. */
  readonly firstChain: Uint8Array
  readonly logSeq: number
  readonly logHead: Uint8Array
  readonly count: number
  /** Application bytes in each event. */
  readonly bodyBytes: number
}

/** Elements of a publish message, one after another; element i begins at `starts[i]`, the last start is the end. */
export interface SealAnswer {
  readonly id: number
  readonly elements: Uint8Array
  readonly starts: Uint32Array
}

parentPort?.on('message', (request: SealRequest) => {
  seal(request).then(
    (answer) => parentPort?.postMessage(answer),
    (error: unknown) => {
      throw error
    },
  )
})

async function seal(request: SealRequest): Promise<SealAnswer> {
  const userId = toUserId(request.userId)
  const deviceId = toDeviceId(request.deviceId)
  const streamId = toStreamId(request.streamId)
  if (!userId || !deviceId || !streamId) throw new Error('expected ids')
  const signer = crypto.createSigner(request.signSeed)
  const starts = new Uint32Array(request.count + 1)
  const elements: Uint8Array[] = []
  let chainPrev = request.firstChain
  for (let i = 0; i < request.count; i++) {
    const atMs = Date.now()
    const content = encodeContent({ type: 'bench', atMs, body: crypto.randomBytes(request.bodyBytes) })
    const header = {
      userId,
      deviceId,
      deviceSeq: i + 1,
      chainPrev,
      streamId,
      eventId: createEventId(atMs, crypto.randomBytes(10)),
      epoch: 1,
      logSeq: request.logSeq,
      logHead: request.logHead,
      ttlS: 0,
      isTombstone: false,
      isKept: false,
      checkpoint: undefined,
    }
    const sealed = await sealEvent(crypto, signer, request.contentKey, header, content)
    chainPrev = sealed.chain
    const element = encodeWireElement(sealed.wire)
    elements.push(element)
    starts[i + 1] = (starts[i] ?? 0) + element.length
  }
  return { id: request.id, elements: Buffer.concat(elements), starts }
}
