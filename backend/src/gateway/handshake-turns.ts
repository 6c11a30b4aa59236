// Whose handshake is worked on next (LIM-5). A handshake holds nothing while its peer is silent: it takes a turn for the
// hello, and another for the client's proof. Proofs go first, so that of a thousand devices that return together each is
// done soon after it was begun, and none is worked on in vain. Hellos go by address, the served longest ago first.

import { performance } from 'node:perf_hooks'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { createFairTurns } from '../limits/fair-turns.ts'

export interface HandshakeTurns {
  /** Resolves or rejects as `work` does, which begins when it is this address's turn. */
  hello<T>(address: string, work: () => Promise<T>): Promise<T>
  /** At once: the peer has proved that it goes on. */
  proof<T>(work: () => Promise<T>): Promise<T>
  /** Hellos that wait. */
  readonly waitingCount: number
}

export interface HandshakeTurnsParts {
  /** While so many proofs wait for the database, no further handshake is begun. */
  readonly proofsAtOnce: number
}

/** In one turn of the event loop, before sockets with proofs are read again. */
const HELLOS_AT_ONCE = 4

export function createHandshakeTurns({ proofsAtOnce }: HandshakeTurnsParts): HandshakeTurns {
  const hellos = createFairTurns({
    atOnce: HELLOS_AT_ONCE,
    rest: async () => void (await nextTurn()),
    now: () => performance.now(),
  })
  const waitingForRoom = new Set<() => void>()
  let proofCount = 0

  const untilRoom = async (): Promise<void> => {
    while (proofCount >= proofsAtOnce) await new Promise<void>((resolve) => waitingForRoom.add(resolve))
  }

  return {
    hello: (address, work) =>
      hellos.run({ address, userKey: '' }, async () => {
        await untilRoom()
        return work()
      }),
    proof: async (work) => {
      proofCount++
      try {
        return await work()
      } finally {
        proofCount--
        for (const wake of waitingForRoom) wake()
        waitingForRoom.clear()
      }
    },
    get waitingCount() {
      return hellos.waitingCount
    },
  }
}
