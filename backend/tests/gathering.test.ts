// Questions of many sessions that come while one is asked become one query.

import { describe, expect, test } from 'vitest'
import { createGathering } from '../src/gateway/gathering.ts'

interface Asked {
  readonly questions: readonly string[]
  answer(): void
  fail(): void
}

function createScene(rules: { readonly maxInFlight: number; readonly maxTogether: number }) {
  const asked: Asked[] = []
  const ask = createGathering<string, string>({
    ...rules,
    keyOf: (question) => question,
    ask: (questions) =>
      new Promise((resolve, reject) => {
        asked.push({
          questions,
          answer: () => resolve(questions.map((question) => `answer to ${question}`)),
          fail: () => reject(new Error('out of reach')),
        })
      }),
  })
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
  return { asked, ask, turn }
}

describe('gathered questions', () => {
  test('LIM-5: what comes in one turn or while others are asked is asked together, and each gets its own answer', async () => {
    const { asked, ask, turn } = createScene({ maxInFlight: 1, maxTogether: 3 })
    const first = [ask('a'), ask('b')]
    await turn()
    const later = ['c', 'd', 'e', 'f'].map(ask)
    await turn()
    expect(asked.map(({ questions }) => questions)).toEqual([['a', 'b']])
    asked[0]!.answer()
    expect(await Promise.all(first)).toEqual(['answer to a', 'answer to b'])
    await turn()
    expect(asked[1]?.questions).toEqual(['c', 'd', 'e'])
    asked[1]!.answer()
    await later[0]
    await turn()
    expect(asked[2]?.questions).toEqual(['f'])
    asked[2]!.answer()
    expect(await Promise.all(later)).toEqual(['c', 'd', 'e', 'f'].map((name) => `answer to ${name}`))
  })

  test('SES-3: the same question twice is asked twice, one after the other', async () => {
    const { asked, ask, turn } = createScene({ maxInFlight: 1, maxTogether: 64 })
    const both = [ask('a'), ask('a'), ask('b')]
    await turn()
    expect(asked[0]?.questions).toEqual(['a', 'b'])
    asked[0]!.answer()
    await both[0]
    await turn()
    expect(asked[1]?.questions).toEqual(['a'])
    asked[1]!.answer()
    expect(await Promise.all(both)).toEqual(['answer to a', 'answer to a', 'answer to b'])
  })

  test('LIM-5: a query that fails fails those it asked for and nobody else', async () => {
    const { asked, ask, turn } = createScene({ maxInFlight: 1, maxTogether: 64 })
    const failing = [ask('a'), ask('b')].map((answer) => expect(answer).rejects.toThrow('out of reach'))
    await turn()
    const next = ask('c')
    asked[0]!.fail()
    await Promise.all(failing)
    await turn()
    asked[1]!.answer()
    expect(await next).toBe('answer to c')
  })
})
