import { describe, expect, it } from 'vitest'
import { createPositionKeeper } from '../src/position-keeper.ts'

/** A disk whose saves end when the test says so. */
function createSlowDisk() {
  const saves: { userSeq: number; resolve: () => void; reject: (error: Error) => void }[] = []
  const save = (userSeq: number) =>
    new Promise<void>((resolve, reject) => {
      saves.push({ userSeq, resolve, reject })
    })
  return { saves, save }
}

describe('the position of a watch', () => {
  it('CLI-2: while a save is under way only the newest position waits for the next', async () => {
    const { saves, save } = createSlowDisk()
    const keeper = createPositionKeeper(0, save)
    for (const userSeq of [1, 2, 3]) keeper.note(userSeq)
    const closed = keeper.close()
    saves[0]!.resolve()
    await expect.poll(() => saves.length).toBe(2)
    saves[1]!.resolve()
    await closed
    expect(saves.map(({ userSeq }) => userSeq)).toEqual([1, 3])
  })

  it('CLI-2: it never moves backwards, as when a watch begins at the start again', async () => {
    const { saves, save } = createSlowDisk()
    const keeper = createPositionKeeper(5, save)
    for (const userSeq of [1, 2, 5]) keeper.note(userSeq)
    await keeper.close()
    expect(saves).toEqual([])
  })

  it('CLI-2: a save that fails is told at the end', async () => {
    const { saves, save } = createSlowDisk()
    const keeper = createPositionKeeper(0, save)
    keeper.note(1)
    saves[0]!.reject(new Error('no space'))
    await expect(keeper.close()).rejects.toThrow('no space')
  })
})
