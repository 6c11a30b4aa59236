// Who can read what, drawn from the boxes that the real states commit to: a device opens the boxes sealed to it, and
// a secret of an epoch opens, through the epoch's links, those of older epochs (PROTOCOL D).

import { type DeviceLogState, type EpochState, findEpoch } from '@valise/protocol'
import { nameOf } from './scene.ts'

export function epochOf(state: DeviceLogState, n: number): EpochState {
  const epoch = findEpoch(state, n)
  if (epoch === undefined) throw new RangeError(`no epoch ${n}`)
  return epoch
}

/** The epochs whose secrets the secret of epoch n opens, itself among them. */
export function reachedFrom(state: DeviceLogState, ...from: readonly number[]): ReadonlySet<number> {
  const reached = new Set(from)
  for (const n of reached) for (const link of epochOf(state, n).links) reached.add(link.n)
  return reached
}

/** The epochs that a new one must link for its secret to open all: of those that no later link reaches, newest first. */
export function unreachedIn(state: DeviceLogState): number[] {
  const unreached: number[] = []
  for (let n = state.epoch.n; n > 0; n--) if (!reachedFrom(state, ...unreached).has(n)) unreached.push(n)
  return unreached
}

/** The names that can open events of epoch n, after this entry and with all boxes they were ever sent. */
export function readersOf(state: DeviceLogState, n: number): ReadonlySet<string> {
  const readers = new Set<string>()
  for (let epochN = n; epochN <= state.epoch.n; epochN++) {
    if (!reachedFrom(state, epochN).has(n)) continue
    for (const box of epochOf(state, epochN).boxes) readers.add(nameOf(box.deviceId))
  }
  return readers
}

/** The names with a box of the newest epoch. */
export const holdersOfNewest = (state: DeviceLogState): string[] =>
  state.epoch.boxes.map((box) => nameOf(box.deviceId)).sort()
