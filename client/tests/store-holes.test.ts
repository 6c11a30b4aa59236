// The arithmetic of places that nothing is held of, and how they are kept (ORD-9).

import { expect, test } from 'vitest'
import { countHoles, fillHole, isInHole } from '../src/store/holes.ts'
import { encodeProgress, NO_PROGRESS, parseProgress } from '../src/store/records.ts'

const holes = [
  { from: 3, to: 5 },
  { from: 8, to: 8 },
]

test('ORD-9: an event fills its place of a hole, and no other', () => {
  expect([2, 3, 5, 6, 8, 9].map((userSeq) => isInHole(holes, userSeq))).toEqual([false, true, true, false, true, false])
  expect(fillHole(holes, 3)).toEqual([{ from: 4, to: 5 }, holes[1]])
  expect(fillHole(holes, 4)).toEqual([{ from: 3, to: 3 }, { from: 5, to: 5 }, holes[1]])
  expect(fillHole(holes, 8)).toEqual([holes[0]])
  expect(fillHole(holes, 7)).toBe(holes)
  expect([countHoles(holes), countHoles([])]).toEqual([4, 0])
})

test('ORD-9: holes are kept with the cursor, and a record that names more than it has is damaged', () => {
  const bytes = encodeProgress({ ...NO_PROGRESS, cursor: 9, holes })
  expect(parseProgress('progress', bytes)).toEqual({ ...NO_PROGRESS, cursor: 9, holes })
  expect(() => parseProgress('progress', bytes.subarray(0, -1))).toThrow(/damaged/)
  expect(() => parseProgress('progress', bytes.subarray(0, -16))).toThrow(/damaged/)
})
