// Handshakes take turns, so that thousands of devices that come back together all get in (LIM-5).

import { describe, expect, test } from 'vitest'
import { createHandshakeTurns } from '../src/gateway/handshake-turns.ts'

describe('turns of handshakes', () => {
  test('LIM-5: as many as allowed are worked on, and the next in order when one has ended', async () => {
    const turns = createHandshakeTurns({ atOnce: 2, turnMs: 60_000 })
    const begun: string[] = []
    const take = async (name: string): Promise<() => void> => {
      const end = await turns.take()
      begun.push(name)
      return end
    }
    const [first, second, third, fourth] = ['first', 'second', 'third', 'fourth'].map(take)
    const endFirst = await first!
    await second
    expect([begun, turns.waitingCount]).toEqual([['first', 'second'], 2])
    endFirst()
    endFirst()
    await third
    expect([begun, turns.waitingCount]).toEqual([['first', 'second', 'third'], 1])
    ;(await third!)()
    ;(await fourth!)()
    ;(await second!)()
    const again = await Promise.all([take('fifth'), take('sixth')])
    expect(begun).toHaveLength(6)
    for (const end of again) end()
  })

  test('LIM-5: whoever does not go on keeps no place for long', async () => {
    const turns = createHandshakeTurns({ atOnce: 1, turnMs: 20 })
    const silent = await turns.take()
    const end = await turns.take()
    silent()
    const third = turns.take()
    expect(turns.waitingCount).toBe(1)
    end()
    ;(await third)()
    expect(turns.waitingCount).toBe(0)
  })
})
