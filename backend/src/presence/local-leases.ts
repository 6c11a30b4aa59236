// Leases of a node without Redis. Nodes that share a board see each other's, as they would through Redis.

import { type Lease, type Leases, leaseKey } from './leases.ts'

export interface LeaseBoard {
  readonly leaseByDevice: Map<string, { readonly sessionNumber: number; readonly untilMs: number }>
}

export const createLeaseBoard = (): LeaseBoard => ({ leaseByDevice: new Map() })

export interface LocalLeasesParts {
  readonly ttlMs: number
  /** Milliseconds. */
  now(): number
  readonly board?: LeaseBoard
}

export function createLocalLeases({ ttlMs, now, board = createLeaseBoard() }: LocalLeasesParts): Leases {
  const { leaseByDevice } = board
  const find = (key: string): number | undefined => {
    const lease = leaseByDevice.get(key)
    if (lease === undefined || lease.untilMs > now()) return lease?.sessionNumber
    leaseByDevice.delete(key)
    return undefined
  }
  const hold = (lease: Lease): void => {
    const key = leaseKey(lease)
    if ((find(key) ?? 0) > lease.sessionNumber) return
    leaseByDevice.set(key, { sessionNumber: lease.sessionNumber, untilMs: now() + ttlMs })
  }
  return {
    hold: async (leases) => leases.forEach(hold),
    release: async (lease) => {
      const key = leaseKey(lease)
      return find(key) === lease.sessionNumber && leaseByDevice.delete(key)
    },
    read: async (devices) => devices.map((device) => find(leaseKey(device))),
    close: async () => {},
  }
}
