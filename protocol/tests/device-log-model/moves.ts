// Every move of the model: what anybody could ask of the log, lawful or not.

import type { Move, Role } from './reference.ts'
import { NAMES } from './scene.ts'

const ROLES: readonly Role[] = ['member', 'manager', 'recovery']
const FURTHER = ['second', 'third', 'attacker'] as const

const adds: readonly Move[] = FURTHER.flatMap((name) => [
  ...ROLES.map((role) => ({ type: 'add', name, role, proof: 'own' }) as const),
  { type: 'add', name, role: 'member', proof: 'none' } as const,
  { type: 'add', name, role: 'member', proof: 'manager' } as const,
])

const pairs = NAMES.flatMap((one, i) => NAMES.slice(i + 1).map((other) => [one, other]))
const revokes: readonly Move[] = [
  ...[...NAMES.map((name) => [name]), ...pairs].map((names) => ({ type: 'revoke', names, members: 'exact' }) as const),
  ...NAMES.flatMap((name) =>
    (['one_more', 'one_less'] as const).map((members) => ({ type: 'revoke', names: [name], members }) as const),
  ),
  { type: 'revoke', names: ['second', 'second'], members: 'exact' },
]

const rotations: readonly Move[] = (['exact', 'one_more', 'one_less'] as const).flatMap((members) => [
  { type: 'rotate', members } as const,
  { type: 'recovery', name: 'phrase2', role: 'recovery', members } as const,
])

const roles: readonly Move[] = NAMES.flatMap((name) => ROLES.map((role) => ({ type: 'role', name, role }) as const))

export const MOVES: readonly Move[] = [
  ...adds,
  ...revokes,
  ...rotations,
  { type: 'recovery', name: 'phrase2', role: 'manager', members: 'exact' },
  { type: 'recovery', name: 'phrase', role: 'recovery', members: 'exact' },
  ...roles,
  { type: 'close' },
]

/** Enough to see that a signer without a say has none, whatever he asks for. */
export const MOVES_OF_THE_POWERLESS: readonly Move[] = [
  { type: 'add', name: 'attacker', role: 'manager', proof: 'own' },
  { type: 'revoke', names: ['first'], members: 'exact' },
  { type: 'rotate', members: 'exact' },
  { type: 'recovery', name: 'phrase2', role: 'recovery', members: 'exact' },
  { type: 'role', name: 'first', role: 'member' },
  { type: 'close' },
]
