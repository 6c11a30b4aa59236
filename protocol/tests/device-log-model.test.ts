// Revocation and epochs, searched: the real verifier, with real signatures, in every state that a small cast can reach within a
// bounded number of entries, against a second description of the rules, and against a server that offers whatever it can
// get. docs/verification/README.md says what is claimed and what is not.

import { applyEntry, type DeviceLogState, findEpoch } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { describe, expect, test } from 'vitest'
import { applyEntries } from '../src/device-log/verify.ts'
import { holdersOfNewest, readersOf } from './device-log-model/knowledge.ts'
import { MOVES, MOVES_OF_THE_POWERLESS } from './device-log-model/moves.ts'
import { activeNames, keyOfWorld, type Move, play, type World } from './device-log-model/reference.ts'
import { craftMove, NAMES, openingPlace, type Place } from './device-log-model/scene.ts'

/** Entries after genesis. */
const DEPTH = 3
const ATTACK_DEPTH = 4
const FORK_DEPTH = 2
const SEARCH_MS = 300_000

const hasSay = ({ devices, isClosed }: World, name: string): boolean => {
  const standing = devices.get(name)
  return !isClosed && standing !== undefined && standing.isActive && standing.role !== 'member'
}

const offerText = (place: Place, signer: string, move: Move): string =>
  `${keyOfWorld(place.world)} | ${signer} | ${JSON.stringify(move)}`

/** The place after a lawful move. */
async function advance(place: Place, signer: string, move: Move, world: World): Promise<Place> {
  const entry = await craftMove(place.state, signer, move)
  const applied = applyEntry(crypto, place.state, entry)
  if (!applied.ok) throw new Error(`refused with ${applied.rule}: ${offerText(place, signer, move)}`)
  return { world, state: applied.state, entries: [...place.entries, entry] }
}

const pastEpochsOf = (state: DeviceLogState) =>
  Array.from({ length: state.epoch.n - 1 }, (_, i) => findEpoch(state, i + 1))

/** What this transition must leave as it was, and what must hold after it. */
function expectSoundStep(before: Place, after: Place): void {
  const text = `${keyOfWorld(before.world)} → ${keyOfWorld(after.world)}`
  const isNewEpoch = after.state.epoch.n !== before.state.epoch.n
  expect(pastEpochsOf(after.state), text).toEqual(
    isNewEpoch ? [...pastEpochsOf(before.state), before.state.epoch] : pastEpochsOf(before.state),
  )
  expect(holdersOfNewest(after.state), text).toEqual(activeNames(after.world).sort())
  const gone = activeNames(before.world).filter((name) => after.world.devices.get(name)?.isActive === false)
  if (gone.length > 0) expect(isNewEpoch, text).toBe(true)
}

describe('the device log, searched', () => {
  test('DEV-1: in every state the verifier admits what the rules admit, and nothing else', {
    timeout: SEARCH_MS,
  }, async () => {
    let frontier = [await openingPlace()]
    const known = new Set(frontier.map(({ world }) => keyOfWorld(world)))
    let offers = 0
    let lawful = 0
    for (let depth = 0; depth <= DEPTH; depth++) {
      const next: Place[] = []
      for (const place of frontier) {
        for (const signer of NAMES) {
          for (const move of hasSay(place.world, signer) ? MOVES : MOVES_OF_THE_POWERLESS) {
            const world = play(place.world, signer, move)
            const entry = await craftMove(place.state, signer, move)
            const applied = applyEntry(crypto, place.state, entry)
            offers++
            if (applied.ok !== (world !== undefined)) {
              const verdict = applied.ok ? 'admitted' : `refused with ${applied.rule}`
              throw new Error(`${verdict}, against the rules: ${offerText(place, signer, move)}`)
            }
            if (world === undefined || !applied.ok) continue
            lawful++
            const after = { world, state: applied.state, entries: [...place.entries, entry] }
            expectSoundStep(place, after)
            if (known.has(keyOfWorld(world))) continue
            known.add(keyOfWorld(world))
            next.push(after)
          }
        }
      }
      frontier = next
    }
    // What docs/verification/README.md says of the search.
    expect({ states: known.size, offers, lawful }).toEqual({ states: 996, offers: 49_042, lawful: 6_966 })
  })

  test('DEV-1: what another key signs in a name is refused, in every state', { timeout: SEARCH_MS }, async () => {
    const admitted: string[] = []
    for (const place of await placesWithin(FORK_DEPTH)) {
      for (const { signer, move } of lawfulMoves(place.world)) {
        for (const holder of ['attacker', 'third'].filter((name) => name !== signer)) {
          const applied = applyEntry(crypto, place.state, await craftMove(place.state, signer, move, holder))
          if (applied.ok || applied.rule !== 'signature') admitted.push(offerText(place, signer, move))
        }
      }
    }
    expect(admitted).toEqual([])
  })

  test.each([
    { corrupt: ['third'], title: 'a member is the attacker’s' },
    { corrupt: ['second'], title: 'a second manager is the attacker’s' },
    { corrupt: ['second', 'third'], title: 'both are' },
    { corrupt: ['phrase'], title: 'the phrase is in the attacker’s hands' },
  ])(
    'DEV-2: who is revoked reads nothing written after, in any order of entries: $title',
    {
      timeout: SEARCH_MS,
    },
    async ({ corrupt }) => {
      const hostile = new Set([...corrupt, 'attacker'])
      const isHostileIn = (world: World): boolean => activeNames(world).some((name) => hostile.has(name))
      const opening = await openingPlace()
      /** `lastHostileEpoch`: the newest epoch during which a device of the attacker's was active; 0 none. */
      let frontier = [{ place: opening, lastHostileEpoch: isHostileIn(opening.world) ? 1 : 0 }]
      const known = new Set<string>()
      let expulsions = 0
      for (let depth = 0; depth < ATTACK_DEPTH; depth++) {
        const next: typeof frontier = []
        for (const { place, lastHostileEpoch } of frontier) {
          for (const { signer, move, world } of lawfulMoves(place.world)) {
            // Those who are not the attacker's do everything they may, but for letting his own device in.
            if (!hostile.has(signer) && move.type === 'add' && move.name === 'attacker') continue
            const isIn = isHostileIn(world)
            const epochN = place.state.epoch.n + (startsEpoch(move) ? 1 : 0)
            const newest = isIn ? epochN : lastHostileEpoch
            const key = `${keyOfWorld(world)} ${epochN} ${newest}`
            if (known.has(key)) continue
            known.add(key)
            const after = await advance(place, signer, move, world)
            if (isHostileIn(place.world) && !isIn) expulsions++
            for (let n = 1; n <= after.state.epoch.n; n++) {
              const isRead = [...readersOf(after.state, n)].some((name) => hostile.has(name))
              if (isRead !== n <= newest)
                throw new Error(`epoch ${n} read: ${isRead}, ${offerText(place, signer, move)}`)
            }
            next.push({ place: after, lastHostileEpoch: newest })
          }
        }
        frontier = next
      }
      expect(expulsions).toBeGreaterThan(0)
    },
  )

  test('DEV-1: nothing out of all histories takes a client back, or onto another branch', {
    timeout: SEARCH_MS,
  }, async () => {
    const places = await placesWithin(FORK_DEPTH, { isEveryHistory: true })
    let followed = 0
    let misled = 0
    for (const pinned of places) {
      for (const shown of places) {
        const mayFollow = pinned.entries.every((entry, seq) => entry === shown.entries[seq])
        // The log from where the client stands, and each history's newest entry out of its place.
        const told = shown.entries.slice(pinned.entries.length)
        if (told.length > 0 && applyEntries(crypto, pinned.state, told).ok !== mayFollow) misled++
        const isNext = mayFollow && told.length === 1
        if (applyEntries(crypto, pinned.state, shown.entries.slice(-1)).ok !== isNext) misled++
        if (mayFollow && told.length > 0) followed++
      }
    }
    expect(misled).toBe(0)
    expect(followed).toBeGreaterThan(places.length)
  })
})

const startsEpoch = ({ type }: Move): boolean => type === 'revoke' || type === 'rotate' || type === 'recovery'

/** What may be done in a world, by those whose word counts. */
function lawfulMoves(world: World) {
  return NAMES.filter((signer) => hasSay(world, signer))
    .flatMap((signer) => MOVES.map((move) => ({ signer, move, world: play(world, signer, move) })))
    .flatMap(({ signer, move, world: after }) => (after === undefined ? [] : [{ signer, move, world: after }]))
}

/** All places that so many entries after genesis lead to: one a world, or one a history. */
async function placesWithin(depth: number, { isEveryHistory = false } = {}): Promise<Place[]> {
  const places = [await openingPlace()]
  const known = new Set(places.map(({ world }) => keyOfWorld(world)))
  for (let from = 0, step = 0; step < depth; step++) {
    const frontier = places.slice(from)
    from = places.length
    for (const place of frontier) {
      for (const { signer, move, world } of lawfulMoves(place.world)) {
        if (!isEveryHistory && known.has(keyOfWorld(world))) continue
        known.add(keyOfWorld(world))
        places.push(await advance(place, signer, move, world))
      }
    }
  }
  return places
}
