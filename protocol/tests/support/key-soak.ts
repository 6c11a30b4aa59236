// Run in a process of its own with a tiny heap, so that collections fall into as many key generations as
// possible; the MACs are there for the native garbage they leave. Prints one line when it comes through.
// With the export that hangs put back, 15 000 generations hung in 4 of 6 runs.

import { nodeCrypto } from '../../src/node-crypto.ts'

const GENERATIONS = 30_000
const MACS_A_GENERATION = 10
const GENERATIONS_A_SIGNER = 20

const peer = nodeCrypto.createKeyAgreement()
for (let i = 0; i < GENERATIONS; i++) {
  const agreement = nodeCrypto.createKeyAgreement()
  const secret = agreement.agree(peer.publicKey)
  if (secret === undefined) throw new Error('no secret')
  for (let j = 0; j < MACS_A_GENERATION; j++) nodeCrypto.hmacSha256(secret, agreement.publicKey)
  if (i % GENERATIONS_A_SIGNER !== 0) continue
  const signer = nodeCrypto.createSigner(secret)
  const signature = await signer.sign(secret)
  if (!nodeCrypto.verifySignature(signer.publicKey, secret, signature)) throw new Error('no signature')
}
console.log(`made ${GENERATIONS} keys`)
