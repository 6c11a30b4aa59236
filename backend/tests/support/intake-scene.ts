// An intake with a database that answers when the test says so.

import type { AppendRun, AppendVerdict } from '../../src/db/queries/events.ts'
import type { Submission, SubmittedEvent } from '../../src/log/batch.ts'
import { createIntake, type IntakeParts, type StoredBatch } from '../../src/log/intake.ts'

export const settle = (): Promise<void> => new Promise((resolve) => setImmediate(() => setImmediate(resolve)))

export const chainOf = (device: number, seq: number): Uint8Array => new Uint8Array(32).fill(device * 16 + seq)

export const event = (device: number, deviceSeq: number, bytes = 100): SubmittedEvent => ({
  deviceSeq,
  chainPrev: chainOf(device, deviceSeq - 1),
  chain: chainOf(device, deviceSeq),
  streamId: new Uint8Array(16),
  eventId: new Uint8Array(16),
  epoch: 1,
  logSeq: 0,
  logHead: new Uint8Array(32),
  ttlS: 0,
  checkpoint: undefined,
  wire: new Uint8Array(bytes),
})

export const submission = (user: number, device: number, events: readonly SubmittedEvent[]): Submission => ({
  userKey: `user ${user}`,
  deviceKey: `device ${device}`,
  userId: new Uint8Array(32).fill(user),
  deviceId: new Uint8Array(16).fill(device),
  events,
  arrivedAtMs: 0,
})

/** Stands for the append statement: keeps each batch open until the test answers it. */
export function createIntakeScene(overrides: Partial<IntakeParts> = {}) {
  const batches: { runs: readonly AppendRun[]; commit: () => Promise<void>; fail: (error: Error) => Promise<void> }[] =
    []
  const stored: StoredBatch[] = []
  const pressure: boolean[] = []
  let userSeq = 0
  const intake = createIntake({
    appendRuns: (runs) =>
      new Promise((resolve, reject) => {
        batches.push({
          runs,
          commit: async () => {
            resolve(
              runs.flatMap((run) =>
                run.events.map(
                  (_, index): AppendVerdict => ({
                    status: 'stored',
                    deviceSeq: run.firstSeq + index,
                    streamSeq: 1,
                    userSeq: ++userSeq,
                    storedAtMs: 0,
                  }),
                ),
              ),
            )
            await settle()
          },
          fail: async (error) => {
            reject(error)
            await settle()
          },
        })
      }),
    isRefusedData: (error) => error instanceof RangeError,
    onStored: (batch) => stored.push(batch),
    onFailure: () => undefined,
    onPressure: (isOver) => pressure.push(isOver),
    observeBatch: () => undefined,
    observeBuffered: () => {},
    now: () => 0,
    maxBatchEvents: 8,
    maxBatchBytes: 10_000,
    maxBufferedBytes: 1000,
    maxBatchesInFlight: 2,
    ...overrides,
  })
  return { intake, batches, stored, pressure }
}

export const seqsOf = (runs: readonly AppendRun[]): number[][] =>
  runs.map((run) => run.events.map((_, index) => run.firstSeq + index))
