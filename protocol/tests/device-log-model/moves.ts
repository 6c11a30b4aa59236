// Every move of the model: what anybody could ask of the log, lawful or not.

import type { Asked, Move, PhraseProof, Role } from './reference.ts'
import { NAMES } from './scene.ts'

const ROLES: readonly Role[] = ['member', 'manager', 'recovery']
const FURTHER = ['second', 'third', 'attacker'] as const
const ASKED: readonly Asked[] = ['recovery', 'close', 'fallen']
const PROOFS: readonly PhraseProof[] = ['none', 'phrase', 'stranger']

const adds: readonly Move[] = FURTHER.flatMap((name) => [
  ...ROLES.map((role) => ({ type: 'add', name, role, proof: 'own' }) as const),
  { type: 'add', name, role: 'member', proof: 'none' } as const,
  { type: 'add', name, role: 'member', proof: 'manager' } as const,
])

/** A phrase that was never in force is not in the log: one of the two shows it. */
const REVOCABLE = NAMES.filter((name) => name !== 'phrase3')
const pairs = REVOCABLE.flatMap((one, i) => REVOCABLE.slice(i + 1).map((other) => [one, other]))
const revokes: readonly Move[] = [
  ...[...REVOCABLE.map((name) => [name]), ...pairs].map(
    (names) => ({ type: 'revoke', names, members: 'exact' }) as const,
  ),
  ...['first', ...FURTHER].map((name) => ({ type: 'revoke', names: [name], members: 'exact', cut: 'other' }) as const),
  ...REVOCABLE.flatMap((name) =>
    (['one_more', 'one_less'] as const).map((members) => ({ type: 'revoke', names: [name], members }) as const),
  ),
  { type: 'revoke', names: ['second', 'second'], members: 'exact' },
]

const recovery = { type: 'recovery', name: 'phrase2', role: 'recovery', form: 'final', proof: 'none' } as const

const rotations: readonly Move[] = (['exact', 'one_more', 'one_less'] as const).flatMap((members): Move[] => [
  { type: 'rotate', members },
  { ...recovery, members },
  { type: 'settle', of: 'recovery', members },
])

const recoveries: readonly Move[] = [
  ...PROOFS.map((proof): Move => ({ ...recovery, form: 'pending', proof, members: 'exact' })),
  { ...recovery, proof: 'phrase', members: 'exact' },
  { ...recovery, proof: 'stranger', members: 'exact' },
  { ...recovery, name: 'phrase3', form: 'pending', members: 'exact' },
  { ...recovery, name: 'phrase3', proof: 'phrase', members: 'exact' },
  { ...recovery, role: 'manager', members: 'exact' },
  { ...recovery, name: 'phrase', members: 'exact' },
]

const roles: readonly Move[] = NAMES.flatMap((name) => ROLES.map((role) => ({ type: 'role', name, role }) as const))

export const MOVES: readonly Move[] = [
  ...adds,
  ...revokes,
  ...rotations,
  ...recoveries,
  { type: 'rotate', members: 'exact', links: 'none' },
  ...roles,
  ...PROOFS.map((proof): Move => ({ type: 'close', proof })),
  ...NAMES.map((name): Move => ({ type: 'suspend', name })),
  ...ASKED.map((of): Move => ({ type: 'cancel', of })),
  { type: 'settle', of: 'close', members: 'exact' },
  { type: 'settle', of: 'fallen', members: 'exact' },
]

/** Enough to see that a signer without a say has none, whatever it asks for. */
export const MOVES_OF_THE_POWERLESS: readonly Move[] = [
  { type: 'add', name: 'attacker', role: 'manager', proof: 'own' },
  { type: 'revoke', names: ['first'], members: 'exact' },
  { type: 'rotate', members: 'exact' },
  { ...recovery, members: 'exact' },
  { ...recovery, form: 'pending', members: 'exact' },
  { type: 'role', name: 'first', role: 'member' },
  { type: 'suspend', name: 'first' },
  { type: 'settle', of: 'recovery', members: 'exact' },
  { type: 'cancel', of: 'recovery' },
  { type: 'close', proof: 'none' },
]
