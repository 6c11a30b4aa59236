// Handshakes take turns, so that thousands of devices that return together all get in, and peers that fall silent hold
// nothing (LIM-5).

import { describe, expect, test } from 'vitest'
import { createHandshakeTurns } from '../src/gateway/handshake-turns.ts'

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

describe('turns of handshakes', () => {
  test('LIM-5: a hello holds its turn only while it is worked on', async () => {
    const turns = createHandshakeTurns({ proofsAtOnce: 1 })
    const answered: number[] = []
    // None of them goes on, and each is answered.
    await Promise.all(
      Array.from({ length: 500 }, (_, index) =>
        turns.hello('a', async () => {
          await nextTurn()
          answered.push(index)
        }),
      ),
    )
    expect(answered).toHaveLength(500)
    expect(turns.waitingCount).toBe(0)
  })

  test('LIM-5: proofs go before hellos, and too many of them hold hellos back until one is done', async () => {
    const turns = createHandshakeTurns({ proofsAtOnce: 2 })
    const done: string[] = []
    let finish = (): void => {}
    const stuck = new Promise<void>((resolve) => {
      finish = resolve
    })
    const proofs = ['one', 'two'].map((name) => turns.proof(() => stuck.then(() => void done.push(name))))
    const hello = turns.hello('a', async () => void done.push('hello'))
    // A third proof is not held back.
    await turns.proof(async () => void done.push('three'))
    await nextTurn()
    expect(done).toEqual(['three'])
    finish()
    await Promise.all([...proofs, hello])
    expect(done).toEqual(['three', 'one', 'two', 'hello'])
  })

  test('LIM-5: an address with a thousand hellos delays itself', async () => {
    const turns = createHandshakeTurns({ proofsAtOnce: 64 })
    let flooded = 0
    const flood = Array.from({ length: 1000 }, () =>
      turns.hello('flood', async () => {
        await nextTurn()
        flooded++
      }),
    )
    await turns.hello('other', async () => {})
    expect(flooded).toBeLessThan(20)
    await Promise.all(flood)
  })

  test('LIM-5: work that fails gives its turn back', async () => {
    const turns = createHandshakeTurns({ proofsAtOnce: 1 })
    const fail = async (): Promise<void> => {
      throw new Error('no')
    }
    for (let i = 0; i < 10; i++) {
      await expect(turns.hello('a', fail)).rejects.toThrow('no')
      await expect(turns.proof(fail)).rejects.toThrow('no')
    }
    await turns.hello('a', async () => {})
  })
})
