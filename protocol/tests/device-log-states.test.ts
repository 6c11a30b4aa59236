// States of a device log that are kept: any entry may be applied to any of them, now and later, and what an entry costs
// does not grow with the log.

import { performance } from 'node:perf_hooks'
import { applyEntries, applyEntry, type Crypto, type DeviceLogState, devicesOf, KEM_X_WING } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { deviceIdOf } from '../src/device-log/device-record.ts'
import { MOVES } from './device-log-model/moves.ts'
import { play } from './device-log-model/reference.ts'
import { craftMove, NAMES, openingPlace, type Place } from './device-log-model/scene.ts'
import { craftAdd, craftGenesis, craftRevoke, createTestDevice, sha256, type TestDevice } from './support/test-log.ts'

/** Whoever changes it from here on throws. Bytes cannot be frozen. */
function freeze(value: unknown): void {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value) || Object.isFrozen(value)) return
  Object.freeze(value)
  for (const part of Object.values(value)) freeze(part)
}

describe('kept states of a device log', () => {
  test('DEV-1: entries applied to kept states, branches and refusals among them, come to what one run comes to', {
    timeout: 120_000,
  }, async () => {
    const offer = fc.record({
      from: fc.nat(),
      isBranch: fc.boolean(),
      isLawful: fc.boolean(),
      signer: fc.constantFrom(...NAMES.slice(0, 4)),
      move: fc.nat(),
    })
    const offers = fc.array(offer, { minLength: 20, maxLength: 40 })
    const opening = await openingPlace()
    const counts = { applied: 0, refused: 0, branches: 0 }
    await fc.assert(
      fc.asyncProperty(offers, async (offered) => {
        const places: Place[] = [opening]
        for (const { from, isBranch, isLawful, signer, move } of offered) {
          const at = isBranch ? from % places.length : places.length - 1
          const { world, state, entries } = places[at]!
          freeze(state)
          const moves = MOVES.filter((one) => (play(world, signer, one) !== undefined) === isLawful)
          const chosen = moves[move % moves.length]
          if (chosen === undefined) continue
          const entry = await craftMove(places[at]!, signer, chosen)
          const applied = applyEntry(crypto, state, entry)
          const atOnce = applyEntries(crypto, undefined, [...entries, entry])
          if (applied.ok) {
            expect(atOnce).toEqual({ ok: true, state: applied.state })
            if (at < places.length - 1) counts.branches++
            const after = play(world, signer, chosen)!
            places.push({ world: after, state: applied.state, entries: [...entries, entry] })
            counts.applied++
          } else {
            expect(atOnce).toEqual({ ok: false, rule: applied.rule, seq: entries.length })
            counts.refused++
          }
        }
        // Whatever was applied to it, and refused after it.
        for (const { state, entries } of places) {
          expect(applyEntries(crypto, undefined, entries)).toEqual({ ok: true, state })
        }
      }),
      { numRuns: 40 },
    )
    expect(Math.min(counts.applied, counts.refused, counts.branches)).toBeGreaterThan(20)
  })

  test('DEV-1: an entry costs no more in a log that knew thousands of devices than in a new one', {
    timeout: 120_000,
  }, async () => {
    const { entries, states } = await writeLog(4_000)
    const run = 1_000
    const late = states[entries.length - run - 1]
    const costs = { early: Number.POSITIVE_INFINITY, late: Number.POSITIVE_INFINITY }
    for (let round = 0; round < 7; round++) {
      costs.early = Math.min(costs.early, timed(undefined, entries.slice(0, run)))
      costs.late = Math.min(costs.late, timed(late, entries.slice(-run)))
    }
    expect(devicesOf(states.at(-1)!)).toHaveLength(4_000)
    expect(costs.late / costs.early).toBeLessThan(3)
  })
})

/** Signatures cost the same in every log: without them the rest is seen. */
const trusting: Crypto = { ...crypto, verifySignature: () => true }

function timed(from: DeviceLogState | undefined, entries: readonly Uint8Array[]): number {
  const startedAtMs = performance.now()
  const replayed = applyEntries(trusting, from, entries)
  if (!replayed.ok) throw new Error(`refused with ${replayed.rule}`)
  return performance.now() - startedAtMs
}

/** Every device but the first is added by one entry and revoked by the next. */
async function writeLog(deviceCount: number) {
  const manager = createTestDevice('manager', 'manager')
  const entries: Uint8Array[] = []
  const states: DeviceLogState[] = []
  const append = (entry: Uint8Array): DeviceLogState => {
    const applied = applyEntry(trusting, states.at(-1), entry)
    if (!applied.ok) throw new Error(`entry ${entries.length} was refused: ${applied.rule}`)
    entries.push(entry)
    states.push(applied.state)
    return applied.state
  }
  let state = append(await craftGenesis(manager, undefined))
  for (let i = 1; i < deviceCount; i++) {
    const device = createUnprovenDevice(`device ${i}`)
    state = append(await craftAdd(state, manager, device))
    state = append(await craftRevoke(state, manager, device))
  }
  return { entries, states }
}

/** With an X-Wing key, as devices have one. */
function createUnprovenDevice(name: string): TestDevice {
  const edPub = sha256(`${name} sign`)
  const kemPub = new Uint8Array(1216).fill(9)
  kemPub.set(sha256(`${name} kem`))
  const record = { role: 'member', edPub, kemId: KEM_X_WING, kemPub } as const
  const signer = { publicKey: edPub, sign: () => new Uint8Array(64) }
  return { signer, record, deviceId: deviceIdOf(crypto, record) }
}
