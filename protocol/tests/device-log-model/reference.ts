// The device log as PROTOCOL C describes it, written a second time without keys or bytes: who may do what, in which state,
// and what is so afterwards. The model holds the real verifier against it.

export type Role = 'member' | 'manager' | 'recovery'

/** Who made the proof of an op 5 or a close: nobody, the recovery device of the moment, or a key that is not the recovery device's. */
export type PhraseProof = 'none' | 'phrase' | 'stranger'

export type Move =
  | { readonly type: 'add'; readonly name: string; readonly role: Role; readonly proof: 'own' | 'none' | 'manager' }
  | { readonly type: 'revoke'; readonly names: readonly string[]; readonly members: Members; readonly cut?: 'other' }
  | { readonly type: 'rotate'; readonly members: Members; readonly links?: 'none' }
  | {
      readonly type: 'recovery'
      readonly name: string
      readonly role: Role
      readonly form: 'final' | 'pending'
      readonly proof: PhraseProof
      readonly members: Members
    }
  | { readonly type: 'role'; readonly name: string; readonly role: Role }
  | { readonly type: 'close'; readonly proof: PhraseProof }
  | { readonly type: 'suspend'; readonly name: string }
  | { readonly type: 'settle'; readonly of: Asked; readonly members: Members }
  | { readonly type: 'cancel'; readonly of: Asked }

/** What is meant by its hash: what is pending now, or something that was once and fell, or never was. */
export type Asked = 'recovery' | 'close' | 'fallen'

/** The list of a new epoch: as it must be, with a revoked device kept or a stranger put in, or with one left out. */
export type Members = 'exact' | 'one_more' | 'one_less'

export interface Standing {
  readonly role: Role
  /** `noted`: the keys of a new recovery device that is pending, or whose pending entry fell. */
  readonly status: 'active' | 'suspended' | 'revoked' | 'noted'
}

export interface World {
  /** All that were ever in the log. */
  readonly devices: ReadonlyMap<string, Standing>
  readonly isClosed: boolean
  readonly pendingRecovery?: { readonly name: string; readonly signer: string }
  readonly pendingClose?: { readonly signer: string }
}

/** Devices that the rules cannot tell apart: worlds that differ in nothing but their names are one. */
const ALIKE = [
  ['second', 'third', 'attacker'],
  ['phrase2', 'phrase3'],
] as const

function orders(names: readonly string[]): string[][] {
  if (names.length < 2) return [[...names]]
  return names.flatMap((name) => orders(names.filter((other) => other !== name)).map((rest) => [name, ...rest]))
}

/** Every way to rename devices that are alike. */
const RENAMINGS = ALIKE.reduce<ReadonlyMap<string, string>[]>(
  (made, names) =>
    made.flatMap((map) =>
      orders(names).map((order) => new Map([...map, ...names.map((name, i) => [name, order[i]!] as const)])),
    ),
  [new Map()],
)

const textOf = (
  { devices, isClosed, pendingRecovery, pendingClose }: World,
  called: (name: string) => string,
): string =>
  [...devices]
    .map(([name, { role, status }]) => `${called(name)}:${role}:${status}`)
    .sort()
    .concat(
      pendingRecovery === undefined
        ? []
        : [`${called(pendingRecovery.signer)} asks for ${called(pendingRecovery.name)}`],
    )
    .concat(pendingClose === undefined ? [] : [`${called(pendingClose.signer)} asks to close`])
    .concat(isClosed ? ['closed'] : [])
    .join(' ')

export const keyOfWorld = (world: World): string => textOf(world, (name) => name)

/** One key for all worlds that differ in names alone. */
export const keyOfKind = (world: World): string =>
  RENAMINGS.map((map) => textOf(world, (name) => map.get(name) ?? name)).sort()[0]!

const namesWith = (world: World, ...statuses: readonly Standing['status'][]): string[] =>
  [...world.devices].filter(([, { status }]) => statuses.includes(status)).map(([name]) => name)

export const activeNames = (world: World): string[] => namesWith(world, 'active')
/** Those that a new epoch is sealed to. */
export const holderNames = (world: World): string[] => namesWith(world, 'active', 'suspended')

export const recoveryOf = (world: World): string | undefined =>
  activeNames(world).find((name) => world.devices.get(name)?.role === 'recovery')

const isActiveManager = (world: World, name: string): boolean => {
  const standing = world.devices.get(name)
  return standing?.status === 'active' && standing.role === 'manager'
}

const isManaged = (world: World, signer: string): boolean =>
  activeNames(world).some((name) => isActiveManager(world, name)) || recoveryOf(world) === signer

const withStanding = (world: World, name: string, standing: Standing): World => ({
  ...world,
  devices: new Map(world.devices).set(name, standing),
})

const without = (world: World, what: 'pendingRecovery' | 'pendingClose'): World => {
  const { [what]: _, ...rest } = world
  return rest
}

/** The new recovery device in place of the old one. */
function replaceRecovery(world: World, name: string): World {
  const old = recoveryOf(world)
  const after = old === undefined ? world : withStanding(world, old, { role: 'recovery', status: 'revoked' })
  return withStanding(after, name, { role: 'recovery', status: 'active' })
}

/** What a move changes by itself, or undefined when it must be refused. What falls by it is not taken away yet. */
function change(world: World, signer: string, move: Move): World | undefined {
  const recovery = recoveryOf(world)
  const holdsProof = 'proof' in move && move.proof === 'phrase' && recovery !== undefined
  switch (move.type) {
    case 'add':
      if (world.devices.has(move.name) || move.role === 'recovery' || move.proof !== 'own') return undefined
      return withStanding(world, move.name, { role: move.role, status: 'active' })
    case 'revoke': {
      let after = world
      for (const name of move.names) {
        const standing = after.devices.get(name)
        if (standing === undefined || standing.role === 'recovery') return undefined
        if (standing.status !== 'active' && standing.status !== 'suspended') return undefined
        if (standing.status === 'suspended' && move.cut === 'other') return undefined
        after = withStanding(after, name, { ...standing, status: 'revoked' })
      }
      return move.members === 'exact' && isManaged(after, signer) ? after : undefined
    }
    case 'rotate':
      return move.members === 'exact' ? world : undefined
    case 'recovery': {
      if (world.devices.has(move.name) || move.role !== 'recovery') return undefined
      if (move.proof !== 'none' && !holdsProof) return undefined
      const isFinal = recovery === undefined || signer === recovery || holdsProof
      if (isFinal !== (move.form === 'final')) return undefined
      if (isFinal) return move.members === 'exact' ? withoutAll(replaceRecovery(world, move.name)) : undefined
      return {
        ...withStanding(world, move.name, { role: 'recovery', status: 'noted' }),
        pendingRecovery: { name: move.name, signer },
      }
    }
    case 'role': {
      const standing = world.devices.get(move.name)
      if (standing?.status !== 'active') return undefined
      if (standing.role === 'recovery' || move.role === 'recovery') return undefined
      const after = withStanding(world, move.name, { ...standing, role: move.role })
      return isManaged(after, signer) ? after : undefined
    }
    case 'close':
      if (move.proof !== 'none' && !holdsProof) return undefined
      if (recovery === undefined || signer === recovery || holdsProof) return withoutAll({ ...world, isClosed: true })
      return world.pendingClose === undefined ? { ...world, pendingClose: { signer } } : undefined
    case 'suspend': {
      const standing = world.devices.get(move.name)
      if (standing?.status !== 'active' || standing.role === 'recovery' || move.name === signer) return undefined
      const after = withStanding(world, move.name, { ...standing, status: 'suspended' })
      return isManaged(after, signer) ? after : undefined
    }
    case 'settle': {
      const pending = world.pendingRecovery
      if (move.of !== 'recovery' || pending === undefined || move.members !== 'exact') return undefined
      if (signer !== pending.signer && signer !== recovery) return undefined
      return without(replaceRecovery(world, pending.name), 'pendingRecovery')
    }
    case 'cancel': {
      if (move.of === 'recovery' && world.pendingRecovery !== undefined) return without(world, 'pendingRecovery')
      if (move.of === 'close' && world.pendingClose !== undefined) return without(world, 'pendingClose')
      return undefined
    }
  }
}

const withoutAll = (world: World): World => without(without(world, 'pendingRecovery'), 'pendingClose')

/** The world after the move, or undefined when it must be refused. */
export function play(world: World, signer: string, move: Move): World | undefined {
  const signs = world.devices.get(signer)
  if (world.isClosed || signs?.status !== 'active' || signs.role === 'member') return undefined
  let after = change(world, signer, move)
  if (after === undefined) return undefined
  // Whatever the phrase signs ends what is pending.
  if (signs.role === 'recovery') return withoutAll(after)
  // And so does whatever ends the say of the device that asked.
  if (after.pendingRecovery !== undefined && !isActiveManager(after, after.pendingRecovery.signer)) {
    after = without(after, 'pendingRecovery')
  }
  if (after.pendingClose !== undefined && !isActiveManager(after, after.pendingClose.signer)) {
    after = without(after, 'pendingClose')
  }
  return after
}
