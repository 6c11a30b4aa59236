// The places up to the cursor that this device holds nothing of. The server said that nothing for this device stands
// there, which is true only of own events whose receipt has not come yet. So there are never many, and each is filled.

/** The first and the last user_seq. */
export interface Hole {
  readonly from: number
  readonly to: number
}

export const countHoles = (holes: readonly Hole[]): number =>
  holes.reduce((count, { from, to }) => count + (to - from + 1), 0)

export const isInHole = (holes: readonly Hole[], userSeq: number): boolean =>
  holes.some(({ from, to }) => from <= userSeq && userSeq <= to)

/** What is left of the holes once something is stored at a place. */
export function fillHole(holes: readonly Hole[], userSeq: number): readonly Hole[] {
  if (!isInHole(holes, userSeq)) return holes
  return holes.flatMap((hole) => {
    if (userSeq < hole.from || userSeq > hole.to) return [hole]
    const below = { from: hole.from, to: userSeq - 1 }
    const above = { from: userSeq + 1, to: hole.to }
    return [below, above].filter(({ from, to }) => from <= to)
  })
}
