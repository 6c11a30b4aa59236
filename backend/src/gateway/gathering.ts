// Questions of many sessions become few queries: alone, one is asked in this turn of the event loop; while others are in
// flight those that come wait, and are then asked together. No question waits for one that came later.

export interface GatheringParts<Question, Answer> {
  /** One answer a question, in their order, in one round trip that waits for no row. */
  ask(questions: readonly Question[]): Promise<readonly Answer[]>
  /** Two questions with one key are never asked together. */
  keyOf(question: Question): string
  readonly maxInFlight: number
  readonly maxTogether: number
}

interface Waiting<Question, Answer> {
  readonly question: Question
  readonly resolve: (answer: Answer) => void
  readonly reject: (error: unknown) => void
}

/** Rejects when the query that asked failed. */
export function createGathering<Question, Answer>(
  parts: GatheringParts<Question, Answer>,
): (question: Question) => Promise<Answer> {
  let waiting: Waiting<Question, Answer>[] = []
  let inFlight = 0
  let isScheduled = false

  const take = (): Waiting<Question, Answer>[] => {
    const taken = new Map<string, Waiting<Question, Answer>>()
    const left: Waiting<Question, Answer>[] = []
    for (const one of waiting) {
      const key = parts.keyOf(one.question)
      if (taken.size < parts.maxTogether && !taken.has(key)) taken.set(key, one)
      else left.push(one)
    }
    waiting = left
    return [...taken.values()]
  }

  const askTogether = async (asked: readonly Waiting<Question, Answer>[]): Promise<void> => {
    try {
      const answers = await parts.ask(asked.map(({ question }) => question))
      if (answers.length !== asked.length) throw new Error('not one answer a question')
      for (const [i, answer] of answers.entries()) asked[i]?.resolve(answer)
    } catch (error) {
      for (const { reject } of asked) reject(error)
    }
  }

  const pump = (): void => {
    isScheduled = false
    while (inFlight < parts.maxInFlight && waiting.length > 0) {
      inFlight++
      void askTogether(take()).then(() => {
        inFlight--
        pump()
      })
    }
  }

  return (question) =>
    new Promise((resolve, reject) => {
      waiting.push({ question, resolve, reject })
      if (isScheduled || inFlight >= parts.maxInFlight) return
      isScheduled = true
      // After this turn, so that what other sockets bring in it is asked in the same query.
      setImmediate(pump)
    })
}
