// Looks a number of users up in the database when other nodes hint at a change: for all users together, and no more than
// one query an interval, however many hints come.

import { toHex } from '@valise/protocol'
import { createPaced, type Paced } from '../bus/paced.ts'

export interface UserLookupsParts<Subject> {
  /** By user key, one query for all; unknown users are left out. */
  ask(userIds: readonly Uint8Array[]): Promise<ReadonlyMap<string, number>>
  take(subject: Subject, answer: number): void
  /** One query failed, or one answer could not be taken. */
  onFailure(error: unknown): void
  monotonicMs(): number
}

const LOOK_UP_EVERY_MS = 10

export function createUserLookups<Subject extends { readonly userId: Uint8Array }>(
  parts: UserLookupsParts<Subject>,
): Paced<Subject> {
  return createPaced<Subject>({
    intervalMs: LOOK_UP_EVERY_MS,
    onFailure: parts.onFailure,
    monotonicMs: parts.monotonicMs,
    run: async (subjects) => {
      const answers = await parts.ask(subjects.map(({ userId }) => userId))
      for (const subject of subjects) {
        const answer = answers.get(toHex(subject.userId))
        try {
          if (answer !== undefined) parts.take(subject, answer)
        } catch (error) {
          parts.onFailure(error)
        }
      }
    },
  })
}
