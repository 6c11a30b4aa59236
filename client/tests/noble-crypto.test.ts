// The crypto port over noble: the suite that OpenSSL passes, and the two side by side.

import { createClientHandshake, createServerHandshake, createSessionChannel, serverFingerprint } from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { describeCrypto } from '../../protocol/tests/support/crypto-suite.ts'
import { createTestIdentity, TEST_NEXT_FINGERPRINT, TEST_POLICY } from '../../protocol/tests/support/session-pair.ts'
import { nobleCrypto } from '../src/noble-crypto.ts'

describeCrypto('noble', nobleCrypto)

test('CRY-1: noble and OpenSSL give the same bytes', () => {
  const bytes32 = fc.uint8Array({ minLength: 32, maxLength: 32 })
  const nonce = fc.uint8Array({ minLength: 12, maxLength: 12 })
  fc.assert(
    fc.property(bytes32, bytes32, nonce, fc.uint8Array({ maxLength: 300 }), (key, other, iv, data) => {
      expect(nobleCrypto.sha256(data)).toEqual(nodeCrypto.sha256(data))
      expect(nobleCrypto.hmacSha256(key, data)).toEqual(nodeCrypto.hmacSha256(key, data))
      const sealed = nobleCrypto.createAead(key).seal(iv, other, data)
      expect(sealed).toEqual(nodeCrypto.createAead(key).seal(iv, other, data))
      const mine = nobleCrypto.createKeyAgreement(key)
      const theirs = nodeCrypto.createKeyAgreement(key)
      expect(mine.publicKey).toEqual(theirs.publicKey)
      expect(mine.agree(other)).toEqual(theirs.agree(other))
      const signature = nodeCrypto.createSigner(key).sign(data)
      expect(nobleCrypto.createSigner(key).sign(data)).toEqual(signature)
    }),
    { numRuns: 25 },
  )
})

test('SES-1: a client over noble and a server over OpenSSL make a session and rotate it', async () => {
  const serverSigner = nodeCrypto.createSigner(nodeCrypto.randomBytes(32))
  const signer = nobleCrypto.createSigner(nobleCrypto.randomBytes(32))
  const client = createClientHandshake({
    crypto: nobleCrypto,
    signer,
    identity: createTestIdentity(nobleCrypto, signer),
    pinnedFingerprint: serverFingerprint(nobleCrypto, serverSigner.publicKey),
  })
  const server = createServerHandshake({
    crypto: nodeCrypto,
    signer: serverSigner,
    nextFingerprint: TEST_NEXT_FINGERPRINT,
    policy: () => TEST_POLICY,
  })
  const hello = await server.receiveHello(client.hello)
  const finished = await client.finish(hello.ok ? hello.reply : '')
  const auth = server.receiveAuth(finished.ok ? finished.authText : '')
  const secrets = auth.ok ? auth.verify(signer.publicKey) : undefined
  if (!finished.ok || secrets === undefined) throw new Error('no session')
  const clientChannel = createSessionChannel({ crypto: nobleCrypto, role: 'client', secrets: finished.secrets })
  const serverChannel = createSessionChannel({ crypto: nodeCrypto, role: 'server', secrets })
  const response = serverChannel.receive(clientChannel.startRekey())
  const done = response.type === 'rekey' ? clientChannel.receive(response.replies[0]!) : response
  expect(done.type === 'rekey' && serverChannel.receive(done.replies[0]!)).toEqual({
    type: 'rekey',
    replies: [],
    isComplete: true,
  })
  const payload = nodeCrypto.randomBytes(1000)
  expect(serverChannel.receive(clientChannel.seal(payload))).toEqual({ type: 'application', payload })
  expect(clientChannel.receive(serverChannel.seal(payload))).toEqual({ type: 'application', payload })
})
