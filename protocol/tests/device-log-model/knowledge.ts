// Who can read what, drawn from the boxes that the real states commit to: a device opens the boxes sealed to it, and
// whoever has the secret of an epoch has, through its link, that of the epoch before (PROTOCOL D).

import { type DeviceLogState, findEpoch } from '@valise/protocol'
import { isAllZero } from '../../src/bytes.ts'
import { nameOf } from './scene.ts'

/** The names that can open events of epoch n, after this entry and with all boxes they were ever sent. */
export function readersOf(state: DeviceLogState, n: number): ReadonlySet<string> {
  const readers = new Set<string>()
  for (let epochN = n; epochN <= state.epoch.n; epochN++) {
    const epoch = findEpoch(state, epochN)
    if (epoch === undefined) throw new RangeError(`no epoch ${epochN}`)
    if (epochN > n && isAllZero(epoch.prevBoxHash)) break
    for (const box of epoch.boxes) readers.add(nameOf(box.deviceId))
  }
  return readers
}

/** The names with a box of the newest epoch. */
export const holdersOfNewest = (state: DeviceLogState): string[] =>
  state.epoch.boxes.map((box) => nameOf(box.deviceId)).sort()
