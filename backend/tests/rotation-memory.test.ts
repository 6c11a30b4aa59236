// What ten thousand changes of keys leave behind: no memory, and no secret.

import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { type Crypto, createSessionChannel, type SessionChannel } from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { describe, expect, test } from 'vitest'

const runner = new URL('./support/run-typescript.mjs', import.meta.url)
const rotator = new URL('./support/rotate-and-measure.ts', import.meta.url)

describe('after many changes of keys', () => {
  test('SES-2: ten thousand rotations of a pair of channels keep memory flat', async () => {
    const program = [runner, rotator].map((file) => fileURLToPath(file))
    const run = promisify(execFile)
    const { stdout } = await run(process.execPath, ['--expose-gc', ...program])
    const { phase, isCollected, before, after } = JSON.parse(stdout)
    expect([phase, isCollected]).toEqual([10_300, true])
    expect(after / before).toBeLessThan(1.05)
    // Ten thousand key pairs take their time on a busy machine.
  }, 180_000)

  test('SES-2: every secret of older keys is overwritten, and the last ones when the session ends', () => {
    /** All that was agreed, extracted, expanded or used as a key, by reference. */
    const secrets = new Set<Uint8Array>()
    const note = (secret: Uint8Array): Uint8Array => {
      secrets.add(secret)
      return secret
    }
    const crypto: Crypto = {
      ...nodeCrypto,
      hmacSha256: (key, data) => note(nodeCrypto.hmacSha256(note(key), data)),
      createAead: (key) => nodeCrypto.createAead(note(key)),
      createKeyAgreement: () => {
        const agreement = nodeCrypto.createKeyAgreement()
        return {
          publicKey: agreement.publicKey,
          agree: (publicKey) => {
            const shared = agreement.agree(publicKey)
            return shared === undefined ? undefined : note(shared)
          },
        }
      },
    }
    const initial = [1, 2, 3].map((byte) => new Uint8Array(32).fill(byte))
    const open = (role: 'client' | 'server'): SessionChannel => {
      const [masterSecret, clientTraffic, serverTraffic] = initial.map((secret) => note(secret.slice()))
      const rest = { transcriptHash: new Uint8Array(32), sessionId: new Uint8Array(16) }
      const given = { masterSecret: masterSecret!, clientTraffic: clientTraffic!, serverTraffic: serverTraffic! }
      return createSessionChannel({ crypto, role, secrets: { ...given, ...rest } })
    }
    const [client, server] = [open('client'), open('server')]
    const left = (): number => [...secrets].filter((secret) => secret.some((byte) => byte !== 0)).length
    const answer = (channel: SessionChannel, frame: Uint8Array): Uint8Array => {
      const received = channel.receive(frame)
      if (received.type !== 'rekey') throw new Error(`received ${received.type}`)
      return received.replies[0] ?? new Uint8Array(0)
    }

    for (let i = 0; i < 5; i++) {
      answer(server, answer(client, answer(server, client.startRekey())))
      expect(server.receive(client.seal(new Uint8Array(9))).type).toBe('application')
      // The master secret that the next rotation starts from, once a side; their initialization vectors are no secrets.
      const masters = [...secrets].filter((secret) => secret.length === 32 && secret.some((byte) => byte !== 0))
      expect(masters).toHaveLength(2)
      expect(masters[0]).toEqual(masters[1])
    }
    expect(secrets.size).toBeGreaterThan(100)
    client.close()
    server.close()
    expect(left()).toBe(0)
  })
})
