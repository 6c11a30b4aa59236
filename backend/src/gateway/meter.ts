// What the peer of one socket asks for, charged to its session, user and address; while one of them owes, the socket is
// not read (LIM-10).

import type { Microseconds } from '../limits/costs.ts'
import type { WorkBudgets } from '../limits/work-budgets.ts'

export interface Meter {
  readonly charge: (cost: Microseconds) => void
  /** From now on the work is this user's, or this device's. */
  become(userKey: string): void
}

export interface MeterParts {
  readonly budgets: Pick<WorkBudgets, 'charge'>
  readonly sessionKey: string
  readonly userKey: string
  readonly address: string
  rest(restMs: number): void
}

export function createMeter({ budgets, sessionKey, userKey, address, rest }: MeterParts): Meter {
  let payer = { sessionKey, userKey, address }
  return {
    charge: (cost) => {
      const restMs = budgets.charge(payer, cost)
      if (restMs > 0) rest(restMs)
    },
    become: (key) => {
      payer = { ...payer, userKey: key }
    },
  }
}
