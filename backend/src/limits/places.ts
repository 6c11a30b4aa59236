// Places that connections hold: so many in all, and so many of one address and of each network around it (LIM-17), so that
// one peer cannot take the places of all others.

import { networksOf } from './client-address.ts'

export interface PlacesParts {
  readonly total: number
  /** Of one address; its networks have as many times as much as their weight says. 0: not limited. */
  readonly perAddress: number
}

export interface Places {
  /** Undefined when there is none. Call the result once the place is free again; a second call does nothing. */
  take(address: string): (() => void) | undefined
  /** One that no address is held to account for: only the total bounds it. */
  takeUncounted(): (() => void) | undefined
  readonly takenCount: number
}

export function createPlaces({ total, perAddress }: PlacesParts): Places {
  const takenByNetwork = new Map<string, number>()
  let takenCount = 0

  const change = (keys: readonly string[], by: 1 | -1): void => {
    takenCount += by
    for (const key of keys) {
      const taken = (takenByNetwork.get(key) ?? 0) + by
      if (taken === 0) takenByNetwork.delete(key)
      else takenByNetwork.set(key, taken)
    }
  }

  const hold = (keys: readonly string[]): (() => void) | undefined => {
    if (takenCount >= total) return undefined
    let isHeld = true
    change(keys, 1)
    return () => {
      if (isHeld) change(keys, -1)
      isHeld = false
    }
  }

  return {
    take: (address) => {
      if (perAddress === 0) return hold([])
      const networks = networksOf(address)
      const isFull = networks.some(({ key, weight }) => (takenByNetwork.get(key) ?? 0) >= perAddress * weight)
      return isFull ? undefined : hold(networks.map(({ key }) => key))
    },
    takeUncounted: () => hold([]),
    get takenCount() {
      return takenCount
    },
  }
}
