// The crypto port over OpenSSL, and the traps of Node 20 that it steps around.

import { execFile } from 'node:child_process'
import { createDecipheriv, createPublicKey, verify } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { build } from 'vite'
import { describe, expect, test } from 'vitest'
import { nodeCrypto } from '../src/node-crypto.ts'
import { describeCrypto, SMALL_ORDER_ENCODINGS, smallOrderForgeries } from './support/crypto-suite.ts'
import { hex } from './support/vectors.ts'

describeCrypto('node:crypto', nodeCrypto)

describe('the traps of node:crypto', () => {
  test('H-1: 30 000 keys are made in a tiny heap, and none hangs', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'valise-soak-'))
    try {
      await build({
        configFile: false,
        logLevel: 'silent',
        build: {
          ssr: fileURLToPath(new URL('support/key-soak.ts', import.meta.url)),
          outDir: folder,
          rollupOptions: { output: { entryFileNames: 'soak.mjs' } },
        },
      })
      const flags = ['--max-old-space-size=48', '--max-semi-space-size=1']
      const { stdout } = await promisify(execFile)(process.execPath, [...flags, join(folder, 'soak.mjs')], {
        timeout: 50_000,
      })
      expect(stdout).toBe('made 30000 keys\n')
    } finally {
      await rm(folder, { recursive: true })
    }
  })

  test('H-2: OpenSSL itself accepts forgeries under keys of small order, so ours is the check that holds', () => {
    const isAccepted = (key: string): boolean => {
      const jwk = { kty: 'OKP', crv: 'Ed25519', x: Buffer.from(key, 'hex').toString('base64url') }
      const publicKey = createPublicKey({ key: jwk, format: 'jwk' })
      return [...smallOrderForgeries(key)].some(({ message, signature }) => verify(null, message, publicKey, signature))
    }
    expect(SMALL_ORDER_ENCODINGS.filter(isAccepted).length).toBeGreaterThan(7)
  })

  test('H-3: Node itself opens a ciphertext under 4 bytes of its tag, so ours is the check that holds', () => {
    const key = nodeCrypto.randomBytes(32)
    const nonce = nodeCrypto.randomBytes(12)
    const sealed = nodeCrypto.createAead(key).seal(nonce, new Uint8Array(0), hex('00112233'))
    const decipher = createDecipheriv('aes-256-gcm', key, nonce)
    decipher.setAAD(new Uint8Array(0))
    decipher.setAuthTag(sealed.subarray(4, 8))
    const plaintext = decipher.update(sealed.subarray(0, 4))
    decipher.final()
    expect(plaintext.toString('hex')).toBe('00112233')
  })

  test('H-4: more keys than the cache holds verify all the same', () => {
    const message = hex('aa')
    const signers = Array.from({ length: 4200 }, () => nodeCrypto.createSigner(nodeCrypto.randomBytes(32)))
    const signed = signers.map((signer) => ({ signer, signature: signer.sign(message) }))
    for (const { signer, signature } of [...signed, ...signed.slice(0, 200)]) {
      expect(signature instanceof Promise).toBe(false)
      if (signature instanceof Promise) continue
      expect(nodeCrypto.verifySignature(signer.publicKey, message, signature)).toBe(true)
    }
  })
})
