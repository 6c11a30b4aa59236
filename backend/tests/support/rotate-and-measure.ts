// Rotates the keys of a pair of session channels and prints the memory in use, in bytes, before and after. Run in a
// process of its own with --expose-gc, so that what is counted is what is held.

import { createSessionChannel, type SessionChannel } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'

const WARM_UP = 300
const ROTATIONS = 10_000

const secrets = () => ({
  masterSecret: new Uint8Array(32).fill(1),
  transcriptHash: new Uint8Array(32).fill(2),
  clientTraffic: new Uint8Array(32).fill(3),
  serverTraffic: new Uint8Array(32).fill(4),
  sessionId: new Uint8Array(16).fill(5),
})
const client = createSessionChannel({ crypto, role: 'client', secrets: secrets() })
const server = createSessionChannel({ crypto, role: 'server', secrets: secrets() })
const payload = new Uint8Array(200)

function pass(from: SessionChannel, to: SessionChannel, frame: Uint8Array): Uint8Array[] {
  const received = to.receive(frame)
  if (received.type === 'failed') throw new Error('a frame does not open')
  if (received.type !== 'rekey') return []
  return received.replies.flatMap((reply) => pass(to, from, reply))
}

function rotate(times: number): void {
  for (let i = 0; i < times; i++) {
    pass(client, server, client.startRekey())
    pass(client, server, client.seal(payload))
    pass(server, client, server.seal(payload))
  }
}

/** Two collections, with a turn of the loop between them: native keys go with their finalizers. */
async function measure(): Promise<number> {
  for (let i = 0; i < 2; i++) {
    globalThis.gc?.()
    await new Promise((resolve) => setImmediate(resolve))
  }
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

rotate(WARM_UP)
const before = await measure()
rotate(ROTATIONS)
const after = await measure()
process.stdout.write(JSON.stringify({ phase: client.phase(), isCollected: globalThis.gc !== undefined, before, after }))
