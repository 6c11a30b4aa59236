// Revocation and epochs, searched: the real verifier, with real signatures, in every state that a small cast can reach within a
// bounded number of entries, against a second description of the rules, and against a server that offers whatever it can
// get. docs/verification/README.md says what is claimed and what is not.

import { applyEntry, type DeviceLogState, type DeviceStatus, deviceIdOf, findDevice, findEpoch } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { describe, expect, test } from 'vitest'
import { applyEntries } from '../src/device-log/verify.ts'
import { holdersOfNewest, readersOf } from './device-log-model/knowledge.ts'
import { MOVES, MOVES_OF_THE_POWERLESS } from './device-log-model/moves.ts'
import {
  holderNames,
  keyOfKind,
  keyOfWorld,
  type Move,
  play,
  recoveryOf,
  type World,
} from './device-log-model/reference.ts'
import { craftMove, deviceOf, NAMES, nameOf, openingPlace, openingWorld, type Place } from './device-log-model/scene.ts'
import {
  craftAdd,
  craftEntry,
  craftRevoke,
  createTestDevice,
  nextEpochWithout,
  type TestDevice,
} from './support/test-log.ts'

/** Entries after genesis. */
const DEPTH = 3
const ATTACK_DEPTH = 4
const FORK_DEPTH = 2
/** Without keys or bytes, so deeper. */
const PATIENCE_DEPTH = 5
const SEARCH_MS = 300_000

const hasSay = ({ devices, isClosed }: World, name: string): boolean => {
  const standing = devices.get(name)
  return !isClosed && standing?.status === 'active' && standing.role !== 'member'
}

const offerText = (place: Place, signer: string, move: Move): string =>
  `${keyOfWorld(place.world)} | ${signer} | ${JSON.stringify(move)}`

function mustFollow(state: DeviceLogState, entry: Uint8Array, text: string): DeviceLogState {
  const applied = applyEntry(crypto, state, entry)
  if (!applied.ok) throw new Error(`refused with ${applied.rule}: ${text}`)
  return applied.state
}

/** The place after a lawful move. */
async function advance(place: Place, signer: string, move: Move, world: World): Promise<Place> {
  const entry = await craftMove(place, signer, move)
  const state = mustFollow(place.state, entry, offerText(place, signer, move))
  return { world, state, entries: [...place.entries, entry] }
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
  expect(holdersOfNewest(after.state), text).toEqual(holderNames(after.world).sort())
  const gone = holderNames(before.world).filter((name) => after.world.devices.get(name)?.status === 'revoked')
  if (gone.length > 0) expect(isNewEpoch, text).toBe(true)
  const { pendingRecovery, pendingClose } = after.state
  expect(
    pendingRecovery && {
      name: nameOf(deviceIdOf(crypto, pendingRecovery.record)),
      signer: nameOf(pendingRecovery.signer),
    },
    text,
  ).toEqual(after.world.pendingRecovery)
  expect(pendingClose && { signer: nameOf(pendingClose.signer) }, text).toEqual(after.world.pendingClose)
  for (const [name, standing] of before.world.devices) {
    // A device is cut once.
    const cut = cutOf(before.state, name)
    if (cut !== undefined) expect(cutOf(after.state, name), text).toEqual(cut)
    // Keys that are noted are those of no device before they are settled.
    const isPending = before.world.pendingRecovery?.name === name
    if (standing.status === 'noted' && !isPending) expect(after.world.devices.get(name), text).toEqual(standing)
  }
}

function cutOf(state: DeviceLogState, name: string) {
  const status: DeviceStatus | undefined = findDevice(state, deviceOf(name).deviceId)?.status
  return status === undefined || status.type === 'active' ? undefined : { lastSeq: status.lastSeq, chain: status.chain }
}

describe('the device log, searched', () => {
  test('DEV-1: in every state the verifier admits what the rules admit, and nothing else', {
    timeout: SEARCH_MS,
  }, async () => {
    let frontier = [await openingPlace()]
    const known = new Set(frontier.map(({ world }) => keyOfKind(world)))
    let offers = 0
    let lawful = 0
    for (let depth = 0; depth <= DEPTH; depth++) {
      const next: Place[] = []
      for (const place of frontier) {
        for (const signer of NAMES) {
          for (const move of hasSay(place.world, signer) ? MOVES : MOVES_OF_THE_POWERLESS) {
            const world = play(place.world, signer, move)
            const entry = await craftMove(place, signer, move)
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
            const kind = keyOfKind(world)
            if (known.has(kind)) continue
            known.add(kind)
            next.push(after)
          }
        }
      }
      frontier = next
    }
    // What docs/verification/README.md says of the search.
    expect({ states: known.size, offers, lawful }).toEqual({ states: 700, offers: 52_738, lawful: 7_079 })
  })

  test('DEV-1: what another key signs in a name is refused, in every state', { timeout: SEARCH_MS }, async () => {
    const admitted: string[] = []
    for (const place of await placesWithin(FORK_DEPTH)) {
      for (const { signer, move } of lawfulMoves(place.world)) {
        for (const holder of ['attacker', 'third'].filter((name) => name !== signer)) {
          const applied = applyEntry(crypto, place.state, await craftMove(place, signer, move, holder))
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
      const isHostileIn = (world: World): boolean => holderNames(world).some((name) => hostile.has(name))
      const opening = await openingPlace()
      let frontier = [{ place: opening, epochs: [{ isHostile: isHostileIn(opening.world), isLinked: true }] }]
      const known = new Set<string>()
      let expulsions = 0
      for (let depth = 0; depth < ATTACK_DEPTH; depth++) {
        const next: typeof frontier = []
        for (const { place, epochs } of frontier) {
          for (const { signer, move, world } of lawfulMoves(place.world, movesWithout('phrase3'))) {
            // Those that are not the attacker's do everything they may, but for letting its own device in.
            if (!hostile.has(signer) && move.type === 'add' && move.name === 'attacker') continue
            if (hostile.has(signer) && !hostile.has('phrase') && isByPhrase(move)) continue
            const isIn = isHostileIn(world)
            const newest = {
              isHostile: isIn,
              isLinked: startsEpoch(move) ? !isUnlinked(move) : epochs.at(-1)!.isLinked,
            }
            const after = startsEpoch(move) ? [...epochs, newest] : [...epochs.slice(0, -1), newest]
            // A device that was in an epoch stays one that could read it.
            if (!startsEpoch(move) && epochs.at(-1)!.isHostile) newest.isHostile = true
            const key = `${keyOfWorld(world)} ${JSON.stringify(after)}`
            if (known.has(key)) continue
            known.add(key)
            const reached = await advance(place, signer, move, world)
            if (isHostileIn(place.world) && !isIn) expulsions++
            for (let n = 1; n <= reached.state.epoch.n; n++) {
              const isRead = [...readersOf(reached.state, n)].some((name) => hostile.has(name))
              if (isRead !== isOpen(after, n)) {
                throw new Error(`epoch ${n} read: ${isRead}, ${offerText(place, signer, move)}`)
              }
            }
            next.push({ place: reached, epochs: after })
          }
        }
        frontier = next
      }
      expect(expulsions).toBeGreaterThan(0)
    },
  )

  test('DEV-14: with the phrase the account comes back, from every state in which it is good', {
    timeout: SEARCH_MS,
  }, async () => {
    const rescue = createTestDevice('rescue', 'manager')
    const rotate = (state: DeviceLogState, by: TestDevice) =>
      craftEntry({ state, by, operation: { type: 'rotate', epoch: nextEpochWithout(state) } })
    let rescued = 0
    for (const { world, state } of await placesWithin(DEPTH)) {
      const phrase = recoveryOf(world)
      if (phrase === undefined || world.isClosed) continue
      const text = keyOfWorld(world)
      const by = deviceOf(phrase, 'recovery')
      const others = holderNames(world).filter((name) => name !== phrase)
      const rotated = mustFollow(state, await rotate(state, by), text)
      const joined = mustFollow(state, await craftAdd(state, by, rescue), text)
      const revoke = craftRevoke(state, by, ...others.map((name) => deviceOf(name)))
      const alone = others.length === 0 ? rotated : mustFollow(state, await revoke, text)
      for (const { pendingRecovery, pendingClose } of [rotated, joined, alone]) {
        expect([pendingRecovery, pendingClose], text).toEqual([undefined, undefined])
      }
      expect(holdersOfNewest(alone), text).toEqual([phrase])
      const back = mustFollow(alone, await craftAdd(alone, by, rescue), text)
      mustFollow(back, await rotate(back, rescue), text)
      rescued++
    }
    expect(rescued).toBe(189)
  })

  test('DEV-14: without the phrase nobody replaces it or ends the account before what they asked for is settled', {
    timeout: SEARCH_MS,
  }, () => {
    let frontier = [openingWorld()]
    const known = new Set(frontier.map(keyOfKind))
    let pending = 0
    for (let depth = 0; depth < PATIENCE_DEPTH; depth++) {
      const next: World[] = []
      for (const world of frontier) {
        for (const { move, world: after } of lawfulMoves(world).filter(({ signer }) => signer !== 'phrase')) {
          if (isByPhrase(move) || move.type === 'settle') continue
          if (recoveryOf(after) !== 'phrase' || after.isClosed)
            throw new Error(`${keyOfWorld(world)}: ${JSON.stringify(move)}`)
          const kind = keyOfKind(after)
          if (known.has(kind)) continue
          known.add(kind)
          if (after.pendingRecovery !== undefined && after.pendingClose !== undefined) pending++
          next.push(after)
        }
      }
      frontier = next
    }
    expect(pending).toBeGreaterThan(0)
  })

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

const startsEpoch = (move: Move): boolean =>
  move.type === 'revoke' ||
  move.type === 'rotate' ||
  move.type === 'settle' ||
  (move.type === 'recovery' && move.form === 'final')

const isUnlinked = (move: Move): boolean => move.type === 'rotate' && move.links === 'none'

/** Only who holds the phrase makes such a proof. */
const isByPhrase = (move: Move): boolean => 'proof' in move && move.proof === 'phrase'

/** What the boxes of one's own epochs open: a linked one opens all before it. */
const isOpen = (epochs: readonly { readonly isHostile: boolean; readonly isLinked: boolean }[], n: number): boolean =>
  epochs.some(({ isHostile, isLinked }, i) => isHostile && (i + 1 === n || (isLinked && i + 1 > n)))

/** Another device stands for each of these: what is done to the one can be done to the other. */
const movesWithout = (...names: readonly string[]): readonly Move[] =>
  MOVES.filter((move) => !names.some((name) => JSON.stringify(move).includes(name)))

/** What may be done in a world, by those whose word counts. */
function lawfulMoves(world: World, moves = MOVES) {
  return NAMES.filter((signer) => hasSay(world, signer))
    .flatMap((signer) => moves.map((move) => ({ signer, move, world: play(world, signer, move) })))
    .flatMap(({ signer, move, world: after }) => (after === undefined ? [] : [{ signer, move, world: after }]))
}

/** All places that so many entries after genesis lead to: one a world, or one a history. */
async function placesWithin(depth: number, { isEveryHistory = false } = {}): Promise<Place[]> {
  const places = [await openingPlace()]
  const known = new Set(places.map(({ world }) => keyOfKind(world)))
  for (let from = 0, step = 0; step < depth; step++) {
    const frontier = places.slice(from)
    from = places.length
    for (const place of frontier) {
      for (const { signer, move, world } of lawfulMoves(
        place.world,
        isEveryHistory ? movesWithout('third', 'phrase3') : MOVES,
      )) {
        const kind = keyOfKind(world)
        if (!isEveryHistory && known.has(kind)) continue
        known.add(kind)
        places.push(await advance(place, signer, move, world))
      }
    }
  }
  return places
}
