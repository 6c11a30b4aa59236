// How rule cases are written: each offers an entry twice by the same lines, broken and mended, so that what is refused
// breaks just the rule it is filed under.
import type { DeviceLogRule, DeviceLogState } from '@valise/protocol'
import { signDevicePop, signRecoveryHeir } from '../../src/device-log/build.ts'
import type { Operation } from '../../src/device-log/operation.ts'
import { signWithContext } from '../../src/kdf.ts'
import {
  addOf,
  craftEntry,
  createTestEpoch,
  type Draft,
  genesisOf,
  mustApply,
  nextEpochWithout,
  sha256,
  type TestDevice,
  type TestLog,
} from '../support/test-log.ts'
export interface Offered {
  readonly state: DeviceLogState | undefined
  readonly entry: Uint8Array
}

export interface RuleCase {
  readonly rule: DeviceLogRule
  readonly title: string
  offer(log: TestLog, isBroken: boolean): Promise<Offered>
}

export function createRuleCases(): {
  readonly cases: readonly RuleCase[]
  add(rule: DeviceLogRule, title: string, offer: RuleCase['offer']): void
} {
  const cases: RuleCase[] = []
  return { cases, add: (rule, title, offer) => cases.push({ rule, title, offer }) }
}

export const OTHER = sha256('other')

export const rotateOf = (state: DeviceLogState): Operation => ({ type: 'rotate', epoch: nextEpochWithout(state) })

export const rotate = async (log: TestLog, draft: Partial<Draft> = {}): Promise<Offered> => {
  const { state, manager } = log
  return { state, entry: await craftEntry({ state, by: manager, operation: rotateOf(state), ...draft }) }
}

export const genesis = async (log: TestLog, draft: Partial<Draft> = {}): Promise<Offered> => {
  const proof = (body: Uint8Array) => signWithContext(log.recovery.signer, 'genesis-pop', body)
  const operation = genesisOf(log.manager, log.recovery)
  return {
    state: undefined,
    entry: await craftEntry({ state: undefined, by: log.manager, operation, proof, ...draft }),
  }
}

/** `add` with the newcomer's proof over its record as it stands. */
export const addRecord = async (log: TestLog, device: TestDevice, draft: Partial<Draft> = {}): Promise<Offered> => {
  const { state, manager } = log
  const proof = await signDevicePop(device.signer, state.userId, device.record)
  return { state, entry: await craftEntry({ state, by: manager, operation: addOf(state, device), proof, ...draft }) }
}

export const setByte = (bytes: Uint8Array, at: number, value: number): Uint8Array => {
  const out = bytes.slice()
  out[at] = value
  return out
}

/** Final, by the manager, with the old phrase's proof; `draft.operation` may say otherwise. */
export const replaceRecovery = async (log: TestLog, next: TestDevice, draft: Partial<Draft> = {}): Promise<Offered> => {
  const { state, manager, recovery } = log
  const members = [...nextEpochWithout(state, recovery).members, next]
  const operation = {
    type: 'recovery',
    record: next.record,
    heirProof: await signRecoveryHeir(recovery.signer, state.userId, next.record),
    epoch: createTestEpoch(state.epoch.n + 1, members),
  } as const
  const proof = await signDevicePop(next.signer, state.userId, next.record)
  return { state, entry: await craftEntry({ state, by: manager, operation, proof, ...draft }) }
}

const NO_PROOF = new Uint8Array(0)

/** Pending, by the manager. */
export const askForRecovery = (log: TestLog, next: TestDevice, draft: Partial<Draft> = {}): Promise<Offered> =>
  replaceRecovery(log, next, {
    operation: { type: 'recovery', record: next.record, heirProof: NO_PROOF, epoch: undefined },
    ...draft,
  })

export const closeBy = async (log: TestLog, by: TestDevice, phraseProof: Uint8Array = NO_PROOF): Promise<Offered> => {
  const { state } = log
  return { state, entry: await craftEntry({ state, by, operation: { type: 'close', phraseProof } }) }
}

/** The log after an offer. */
export const after = (log: TestLog, { state, entry }: Offered): TestLog => ({ ...log, state: mustApply(state, entry) })
