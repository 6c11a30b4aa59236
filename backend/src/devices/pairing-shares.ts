// Who gives a place up when all places of pairing are taken (PAIR-10): the address that holds the most of the network that
// holds the most. Whoever fills the places so only displaces itself, and an address that holds few always gets one.

import { networksOf } from '../limits/client-address.ts'

export interface Holder {
  readonly address: string
  readonly placeCount: number
}

/**
 * The address that loses the place it took last, so that `newcomer` gets one; undefined when that is the newcomer itself.
 * `holders`: first the address that has had a place for longest. Of two that hold as many, it goes first.
 */
export function chooseLoser(holders: readonly Holder[], newcomer: string): string | undefined {
  const counts = new Map(holders.map(({ address, placeCount }) => [address, placeCount]))
  counts.set(newcomer, (counts.get(newcomer) ?? 0) + 1)
  let left = [...counts].map(([address, placeCount]) => ({ address, placeCount, path: pathOf(address) }))
  for (let depth = 0; left.length > 1; depth++) {
    const keyOf = ({ path }: { readonly path: readonly string[] }): string =>
      path[Math.min(depth, path.length - 1)] ?? ''
    const largest = largestGroup(left, keyOf)
    left = left.filter((holder) => keyOf(holder) === largest)
  }
  const [loser] = left
  return loser === undefined || loser.address === newcomer ? undefined : loser.address
}

/** The widest network first, the address itself last: no two addresses have the same. */
const pathOf = (address: string): readonly string[] => [
  ...networksOf(address)
    .map(({ key }) => key)
    .reverse(),
  address,
]

function largestGroup<Item extends Holder>(items: readonly Item[], keyOf: (item: Item) => string): string {
  const countByKey = new Map<string, number>()
  for (const item of items) countByKey.set(keyOf(item), (countByKey.get(keyOf(item)) ?? 0) + item.placeCount)
  let largest = ''
  let largestCount = 0
  for (const [key, placeCount] of countByKey) {
    if (placeCount <= largestCount) continue
    largest = key
    largestCount = placeCount
  }
  return largest
}
