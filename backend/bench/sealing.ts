// Seals the events of a run into memory before its clock starts, on both cores.

import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import type { SealAnswer, SealRequest } from './seal-worker.ts'
import type { BenchUser } from './users.ts'

export type SealedRun = Omit<SealAnswer, 'id'>

export interface Sealing {
  /** For each user, the first `count` events of his publisher. */
  seal(users: readonly BenchUser[], count: number, bodyBytes: number): Promise<SealedRun[]>
  close(): Promise<void>
}

export function createSealing(): Sealing {
  const workers = Array.from(
    { length: Math.min(4, availableParallelism()) },
    () => new Worker(new URL('./seal-worker.js', import.meta.url)),
  )
  const waiting = new Map<number, (answer: SealAnswer) => void>()
  let onFailure = (_error: Error): void => undefined
  let lastId = 0
  for (const worker of workers) {
    worker.on('message', (answer: SealAnswer) => {
      waiting.get(answer.id)?.(answer)
      waiting.delete(answer.id)
    })
    worker.on('error', (error) => onFailure(error instanceof Error ? error : new Error('a sealing thread failed')))
  }

  const sealOne = (user: BenchUser, count: number, bodyBytes: number): Promise<SealAnswer> =>
    new Promise((resolve) => {
      const id = ++lastId
      const request: SealRequest = {
        id,
        userId: user.userId,
        deviceId: user.publisher.deviceId,
        streamId: user.streamId,
        signSeed: user.publisher.secrets.signSeed,
        contentKey: user.contentKey,
        firstChain: user.firstChain,
        logSeq: user.log.seq,
        logHead: user.log.head,
        count,
        bodyBytes,
      }
      waiting.set(id, resolve)
      workers[id % workers.length]?.postMessage(request)
    })

  return {
    seal: async (users, count, bodyBytes) => {
      const failed = new Promise<never>((_resolve, reject) => {
        onFailure = reject
      })
      const sealed = Promise.all(users.map((user) => sealOne(user, count, bodyBytes)))
      return Promise.race([sealed, failed])
    },
    close: async () => {
      await Promise.all(workers.map((worker) => worker.terminate()))
    },
  }
}
