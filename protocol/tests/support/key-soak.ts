// Run in a process of its own with a tiny heap, so that collections fall into as many key generations as
// possible. Prints one line when it comes through.

import { nodeCrypto } from '../../src/node-crypto.ts'

const GENERATIONS = 5000

const peer = nodeCrypto.createKeyAgreement()
for (let i = 0; i < GENERATIONS; i++) {
  const agreement = nodeCrypto.createKeyAgreement()
  if (agreement.agree(peer.publicKey) === undefined) throw new Error('no secret')
  const signer = nodeCrypto.createSigner(nodeCrypto.randomBytes(32))
  const message = agreement.publicKey
  const signature = signer.sign(message)
  if (signature instanceof Promise || !nodeCrypto.verifySignature(signer.publicKey, message, signature)) {
    throw new Error('no signature')
  }
}
console.log(`made ${GENERATIONS} keys`)
