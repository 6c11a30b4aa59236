// The device log as PROTOCOL C describes it, written a second time without keys or bytes: who may do what, in which state,
// and what is so afterwards. The model holds the real verifier against it.

export type Role = 'member' | 'manager' | 'recovery'

export type Move =
  | { readonly type: 'add'; readonly name: string; readonly role: Role; readonly proof: 'own' | 'none' | 'manager' }
  | { readonly type: 'revoke'; readonly names: readonly string[]; readonly members: Members }
  | { readonly type: 'rotate'; readonly members: Members }
  | { readonly type: 'recovery'; readonly name: string; readonly role: Role; readonly members: Members }
  | { readonly type: 'role'; readonly name: string; readonly role: Role }
  | { readonly type: 'close' }

/** The list of a new epoch: as it must be, with a revoked device kept or a stranger put in, or with one left out. */
export type Members = 'exact' | 'one_more' | 'one_less'

export interface Standing {
  readonly role: Role
  readonly isActive: boolean
}

export interface World {
  /** Whoever was ever in the log. */
  readonly devices: ReadonlyMap<string, Standing>
  readonly isClosed: boolean
}

export const keyOfWorld = ({ devices, isClosed }: World): string =>
  [...devices]
    .map(([name, { role, isActive }]) => `${name}:${role}:${isActive ? 'active' : 'revoked'}`)
    .sort()
    .concat(isClosed ? ['closed'] : [])
    .join(' ')

export const activeNames = (world: World): string[] =>
  [...world.devices].filter(([, { isActive }]) => isActive).map(([name]) => name)

const isManaged = (world: World, signer: string): boolean => {
  const standings = [...world.devices.values()]
  if (standings.some(({ role, isActive }) => isActive && role === 'manager')) return true
  const after = world.devices.get(signer)
  return after?.isActive === true && after.role === 'recovery'
}

const withStanding = (world: World, name: string, standing: Standing): World => ({
  ...world,
  devices: new Map(world.devices).set(name, standing),
})

/** The world after the move, or undefined when it must be refused. */
export function play(world: World, signer: string, move: Move): World | undefined {
  const signs = world.devices.get(signer)
  if (world.isClosed || signs === undefined || !signs.isActive || signs.role === 'member') return undefined
  switch (move.type) {
    case 'add':
      if (world.devices.has(move.name) || move.role === 'recovery' || move.proof !== 'own') return undefined
      return withStanding(world, move.name, { role: move.role, isActive: true })
    case 'revoke': {
      let after = world
      for (const name of move.names) {
        const standing = after.devices.get(name)
        if (standing === undefined || !standing.isActive) return undefined
        after = withStanding(after, name, { ...standing, isActive: false })
      }
      return move.members === 'exact' && isManaged(after, signer) ? after : undefined
    }
    case 'rotate':
      return move.members === 'exact' ? world : undefined
    case 'recovery': {
      if (world.devices.has(move.name) || move.role !== 'recovery' || move.members !== 'exact') return undefined
      let after = world
      for (const [name, standing] of world.devices) {
        if (standing.role === 'recovery') after = withStanding(after, name, { ...standing, isActive: false })
      }
      return withStanding(after, move.name, { role: 'recovery', isActive: true })
    }
    case 'role': {
      const standing = world.devices.get(move.name)
      if (standing === undefined || !standing.isActive) return undefined
      if (standing.role === 'recovery' || move.role === 'recovery') return undefined
      const after = withStanding(world, move.name, { ...standing, role: move.role })
      return isManaged(after, signer) ? after : undefined
    }
    case 'close':
      return { ...world, isClosed: true }
  }
}
