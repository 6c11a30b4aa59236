// Stands before the append: no checkpoint is stored that names a chain which the log does not have, because every reader
// would take it for the server's lie (PROTOCOL E). Only the positions of checkpoints cost a query, one a batch. Rows are
// never taken back, so what was true when it was read is true when the event is stored.

import { type ChainPosition, equalBytes, eventIdTimeMs, toEventId } from '@valise/protocol'
import type { AppendEvent, AppendRun, AppendVerdict, ChainPlace, FoundChain } from '../db/queries/events.ts'
import { appendCut, type Cut } from './cut-runs.ts'

export interface CheckpointGuardParts {
  appendRuns(runs: readonly AppendRun[]): Promise<AppendVerdict[]>
  /** One answer a place, in order; undefined for a device that the user does not have. */
  readChains(places: readonly ChainPlace[]): Promise<readonly (FoundChain | undefined)[]>
  /** Unix milliseconds. */
  logEpochBeganAtMs(): number
}

/** As the append it guards; the first event of a run with a false position is `checkpoint_false`, those after it a gap. */
export function createCheckpointGuard(parts: CheckpointGuardParts): Pick<CheckpointGuardParts, 'appendRuns'> {
  return {
    appendRuns: async (runs) => {
      const questions = runs.flatMap(questionsOf)
      if (questions.length === 0) return parts.appendRuns(runs)
      const asked = questions.filter(({ ownChain }) => ownChain === undefined)
      const answers = await parts.readChains(asked.map(toPlace))
      const foundByQuestion = new Map(asked.map((question, i) => [question, answers[i]]))
      const cuts = new Map<AppendRun, Cut>()
      for (const question of questions) {
        if (cuts.has(question.run)) continue
        const found = foundByQuestion.get(question)
        if (!isTrue(question, found, parts.logEpochBeganAtMs())) {
          cuts.set(question.run, { at: question.at, status: 'checkpoint_false' })
        }
      }
      return appendCut(parts.appendRuns, runs, cuts)
    },
  }
}

interface Question {
  readonly run: AppendRun
  /** The index of its event in the run. */
  readonly at: number
  readonly event: AppendEvent
  readonly position: ChainPosition
  /** The chain as the run itself has it: of an event that is stored with this one. */
  readonly ownChain: Uint8Array | undefined
}

function questionsOf(run: AppendRun): Question[] {
  return run.events.flatMap((event, at) =>
    (event.checkpoint ?? []).map((position) => {
      const isOwn = equalBytes(position.deviceId, run.deviceId)
      const ownIndex = position.deviceSeq - run.firstSeq
      const ownChain = isOwn && ownIndex < at ? run.events[ownIndex]?.chain : undefined
      return { run, at, event, position, ownChain }
    }),
  )
}

const toPlace = ({ run, position }: Question): ChainPlace => ({
  userId: run.userId,
  deviceId: position.deviceId,
  deviceSeq: position.deviceSeq,
})

function isTrue({ position, event, ownChain }: Question, found: FoundChain | undefined, beganAtMs: number): boolean {
  if (ownChain !== undefined) return equalBytes(ownChain, position.chain)
  if (found === undefined) return false
  if (position.deviceSeq <= found.lastDeviceSeq) {
    return found.chain !== undefined && equalBytes(found.chain, position.chain)
  }
  // Ahead of a log that went back to a backup; readers ignore such a position.
  const eventId = toEventId(event.eventId)
  return eventId !== undefined && eventIdTimeMs(eventId) < beganAtMs
}
