// A map that is never changed: `putInto` makes the next one and shares with it all but the few nodes on the way to the
// key. So an entry of a device log costs the same whatever the log holds, and states that are kept stay as they were.
// Keys are hexadecimal and of one length in one tree. A key is as deep as the prefix it has in common with another, so
// one that a peer may choose at will is hashed first.

interface Leaf<Value> {
  readonly key: string
  readonly value: Value
}

/** By the next digit of the key. */
type Branch<Value> = readonly (Leaf<Value> | Branch<Value> | undefined)[]

/** `undefined`: nothing in it. */
export type PrefixTree<Value> = Leaf<Value> | Branch<Value> | undefined

/** An array's own test does not narrow one that is read-only. */
const isBranch = <Value>(tree: Leaf<Value> | Branch<Value>): tree is Branch<Value> => Array.isArray(tree)

const digitAt = (key: string, depth: number): number => {
  const digit = Number.parseInt(key.charAt(depth), 16)
  if (Number.isNaN(digit)) throw new RangeError('keys of a prefix tree are hexadecimal and of one length')
  return digit
}

export function findIn<Value>(tree: PrefixTree<Value>, key: string): Value | undefined {
  let node = tree
  for (let depth = 0; node !== undefined && isBranch(node); depth++) node = node[digitAt(key, depth)]
  return node !== undefined && node.key === key ? node.value : undefined
}

/** The tree with this value under the key, in place of the one it had. */
export const putInto = <Value>(tree: PrefixTree<Value>, key: string, value: Value): PrefixTree<Value> =>
  putBelow(tree, { key, value }, 0)

function putBelow<Value>(node: PrefixTree<Value>, leaf: Leaf<Value>, depth: number): Leaf<Value> | Branch<Value> {
  if (node === undefined || (!isBranch(node) && node.key === leaf.key)) return leaf
  const next: (Leaf<Value> | Branch<Value> | undefined)[] = isBranch(node) ? [...node] : new Array(16).fill(undefined)
  if (!isBranch(node)) next[digitAt(node.key, depth)] = node
  const digit = digitAt(leaf.key, depth)
  next[digit] = putBelow(next[digit], leaf, depth + 1)
  return next
}

/** In the order of the keys. */
export function* valuesIn<Value>(tree: PrefixTree<Value>): Generator<Value, void> {
  if (tree === undefined) return
  if (!isBranch(tree)) yield tree.value
  else for (const node of tree) yield* valuesIn(node)
}
