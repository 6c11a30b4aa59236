// Devices with keys made of their names, a small device log of them, and entries that may break any rule:
// `craftEntry` writes and signs whatever it is told.

import { createHash } from 'node:crypto'
import { type Signer, toHex } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { signDevicePop } from '../../src/device-log/build.ts'
import { type DeviceRecord, type DeviceRole, deviceIdOf, KEM_X25519 } from '../../src/device-log/device-record.ts'
import { type EntryHeader, encodeEntry, encodeEntryBody } from '../../src/device-log/entry.ts'
import {
  type EpochStart,
  encodeOperation,
  encodeOperationType,
  type Operation,
} from '../../src/device-log/operation.ts'
import { type DeviceLogState, keyHolders } from '../../src/device-log/state.ts'
import { applyEntry } from '../../src/device-log/verify.ts'
import { type DeviceId, noUserId } from '../../src/ids.ts'
import { signWithContext } from '../../src/kdf.ts'

export const sha256 = (text: string): Uint8Array => new Uint8Array(createHash('sha256').update(text).digest())

export interface TestDevice {
  readonly signer: Signer
  readonly record: DeviceRecord
  readonly deviceId: DeviceId
}

/** A KEM key is never opened here, so any bytes will do. */
export function createTestDevice(name: string, role: DeviceRole, kemPub = sha256(`${name} kem`)): TestDevice {
  const signer = crypto.createSigner(sha256(`${name} sign`))
  const record = { role, edPub: signer.publicKey, kemId: KEM_X25519, kemPub } as const
  return { signer, record, deviceId: deviceIdOf(crypto, record) }
}

export const sortById = <Item extends { readonly deviceId: DeviceId }>(items: readonly Item[]): Item[] =>
  [...items].sort((a, b) => (toHex(a.deviceId) < toHex(b.deviceId) ? -1 : 1))

/** EPOCH n over these devices, with boxes and links made of nothing; by itself it is linked to the epoch before. */
export const createTestEpoch = (
  n: number,
  members: readonly { readonly deviceId: DeviceId }[],
  linkedTo: readonly number[] = n === 1 ? [] : [n - 1],
): EpochStart => ({
  n,
  commit: sha256(`commit ${n}`),
  members: sortById(members).map(({ deviceId }) => ({ deviceId, boxHash: sha256(`box ${n} ${toHex(deviceId)}`) })),
  links: linkedTo.map((prevN) => ({ n: prevN, boxHash: sha256(`link ${n} ${prevN}`) })),
})

export interface Draft {
  /** `undefined`: genesis. */
  readonly state: DeviceLogState | undefined
  readonly by: TestDevice
  readonly operation: Operation
  readonly header?: Partial<EntryHeader>
  readonly payload?: Uint8Array
  readonly proof?: Uint8Array | ((body: Uint8Array) => Promise<Uint8Array>)
  readonly signer?: Signer
  readonly mendBody?: (body: Uint8Array) => Uint8Array
}

export async function craftEntry(draft: Draft): Promise<Uint8Array> {
  const { state, by, operation } = draft
  const header: EntryHeader = {
    userId: state?.userId ?? noUserId(),
    seq: state === undefined ? 0 : state.seq + 1,
    prev: state?.head ?? new Uint8Array(32),
    timeMs: 1_700_000_000_000,
    signer: by.deviceId,
    opCode: encodeOperationType(operation.type),
    ...draft.header,
  }
  const plain = encodeEntryBody(header, draft.payload ?? encodeOperation(operation))
  const body = draft.mendBody?.(plain) ?? plain
  const signature = await signWithContext(draft.signer ?? by.signer, 'device-log', body)
  const proof = typeof draft.proof === 'function' ? await draft.proof(body) : draft.proof
  return encodeEntry(body, signature, proof ?? new Uint8Array(0))
}

const history = new WeakMap<DeviceLogState, readonly Uint8Array[]>()

export function mustApply(state: DeviceLogState | undefined, entry: Uint8Array): DeviceLogState {
  const applied = applyEntry(crypto, state, entry)
  if (!applied.ok) throw new Error(`the entry was refused: ${applied.rule}`)
  history.set(applied.state, [...entriesOf(state), entry])
  return applied.state
}

/** All that `mustApply` took on the way to a state. */
export function entriesOf(state: DeviceLogState | undefined): readonly Uint8Array[] {
  const entries = state === undefined ? [] : history.get(state)
  if (entries === undefined) throw new Error('a state that was not made of entries')
  return entries
}

export const genesisOf = (manager: TestDevice, recovery: TestDevice | undefined): Operation => ({
  type: 'genesis',
  nonce: sha256('nonce'),
  manager: manager.record,
  recovery: recovery?.record,
  epoch: createTestEpoch(1, recovery === undefined ? [manager] : [manager, recovery]),
})

export const craftGenesis = (manager: TestDevice, recovery: TestDevice | undefined): Promise<Uint8Array> =>
  craftEntry({
    state: undefined,
    by: manager,
    operation: genesisOf(manager, recovery),
    proof: async (body) =>
      recovery === undefined ? new Uint8Array(0) : await signWithContext(recovery.signer, 'genesis-pop', body),
  })

export const addOf = (state: DeviceLogState, device: TestDevice): Operation => ({
  type: 'add',
  record: device.record,
  epochN: state.epoch.n,
  boxHash: sha256(`box ${state.epoch.n} ${toHex(device.deviceId)}`),
})

export const craftAdd = async (state: DeviceLogState, by: TestDevice, device: TestDevice): Promise<Uint8Array> =>
  craftEntry({
    state,
    by,
    operation: addOf(state, device),
    proof: await signDevicePop(device.signer, state.userId, device.record),
  })

/** The next epoch, over those that hold the key of this one but for some. */
export const nextEpochWithout = (state: DeviceLogState, ...gone: readonly TestDevice[]): EpochStart =>
  createTestEpoch(
    state.epoch.n + 1,
    keyHolders(state).filter((device) => !gone.some((one) => toHex(one.deviceId) === toHex(device.deviceId))),
  )

export const revokeOf = (state: DeviceLogState, ...gone: readonly TestDevice[]): Operation => ({
  type: 'revoke',
  devices: gone.map(cutOf),
  reason: 1,
  epoch: nextEpochWithout(state, ...gone),
})

export const craftRevoke = (state: DeviceLogState, by: TestDevice, ...gone: TestDevice[]): Promise<Uint8Array> =>
  craftEntry({ state, by, operation: revokeOf(state, ...gone) })

export const cutOf = ({ deviceId }: TestDevice) => ({ deviceId, lastSeq: 7, chain: sha256('cut') })

export const craftSuspend = (state: DeviceLogState, by: TestDevice, device: TestDevice): Promise<Uint8Array> =>
  craftEntry({ state, by, operation: { type: 'suspend', device: cutOf(device) } })

/** A log with a first manager, a recovery device, a second manager and a member. */
export interface TestLog {
  readonly manager: TestDevice
  readonly recovery: TestDevice
  readonly second: TestDevice
  readonly member: TestDevice
  /** In no log yet. */
  readonly newcomer: TestDevice
  readonly entries: readonly Uint8Array[]
  readonly state: DeviceLogState
}

export async function createTestLog(): Promise<TestLog> {
  const manager = createTestDevice('manager', 'manager')
  const recovery = createTestDevice('recovery', 'recovery')
  const second = createTestDevice('second', 'manager')
  const member = createTestDevice('member', 'member')
  const newcomer = createTestDevice('newcomer', 'member')
  const genesis = await craftGenesis(manager, recovery)
  const first = mustApply(undefined, genesis)
  const addSecond = await craftAdd(first, manager, second)
  const withSecond = mustApply(first, addSecond)
  const addMember = await craftAdd(withSecond, second, member)
  const state = mustApply(withSecond, addMember)
  return { manager, recovery, second, member, newcomer, entries: [genesis, addSecond, addMember], state }
}
