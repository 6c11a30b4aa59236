// The rules about devices that leave or change, and about what key epochs must say.

import type { DeviceLogState } from '@valise/protocol'
import { signRecoveryHeir } from '../../src/device-log/build.ts'
import type { Operation } from '../../src/device-log/operation.ts'
import {
  addOf,
  craftAdd,
  craftRevoke,
  craftSuspend,
  createTestDevice,
  createTestEpoch,
  genesisOf,
  mustApply,
  nextEpochWithout,
  revokeOf,
  sortById,
  type TestDevice,
  type TestLog,
} from '../support/test-log.ts'
import { addRecord, after, createRuleCases, genesis, OTHER, replaceRecovery, rotate } from './offers.ts'

const { cases, add } = createRuleCases()
export const epochCases = cases

add('unknown_device', 'a stranger is revoked', async (log, isBroken) =>
  rotate(log, { operation: revokeOf(log.state, isBroken ? log.newcomer : log.member) }),
)
add('unknown_device', 'a stranger is promoted', async (log, isBroken) => {
  const { deviceId } = isBroken ? log.newcomer : log.member
  return rotate(log, { operation: { type: 'role', deviceId, role: 'manager' } })
})
add('device_inactive', 'a device is revoked again', async (log, isBroken) => {
  const state = mustApply(log.state, await craftRevoke(log.state, log.manager, log.member))
  return rotate({ ...log, state }, { operation: revokeOf(state, isBroken ? log.member : log.second) })
})
add('device_inactive', 'a device is revoked twice in one entry', async (log, isBroken) => {
  const { state, member, second } = log
  return rotate(log, { operation: isBroken ? revokeOf(state, member, member) : revokeOf(state, member, second) })
})
add('device_inactive', 'a revoked device is promoted', async (log, isBroken) => {
  const gone = isBroken ? log.member : log.second
  const state = mustApply(log.state, await craftRevoke(log.state, log.manager, gone))
  const operation = { type: 'role', deviceId: log.member.deviceId, role: 'manager' } as const
  return rotate({ ...log, state }, { operation })
})
for (const [title, n] of [
  ['an epoch is left out', 3],
  ['an epoch starts again', 1],
] as const) {
  add('epoch_number', title, async (log, isBroken) => {
    const epoch = { ...nextEpochWithout(log.state), n: isBroken ? n : 2 }
    return rotate(log, { operation: { type: 'rotate', epoch } })
  })
}
add('epoch_number', 'the first epoch is not 1', async (log, isBroken) => {
  const operation = genesisOf(log.manager, log.recovery)
  if (operation.type !== 'genesis') throw new Error('not genesis')
  return genesis(log, { operation: { ...operation, epoch: { ...operation.epoch, n: isBroken ? 2 : 1 } } })
})
add('epoch_number', 'a new device gets the box of a past epoch', async (log, isBroken) => {
  const { entry } = await rotate(log)
  const state = mustApply(log.state, entry)
  const operation = { ...addOf(state, log.newcomer), epochN: isBroken ? 1 : 2 } as Operation
  return addRecord({ ...log, state }, log.newcomer, { operation })
})
type Holder = Pick<TestDevice, 'deviceId'>
const unfitLists: readonly (readonly [string, (fit: readonly Holder[]) => readonly Holder[]])[] = [
  ['the first device gets no box', (fit) => fit.slice(1)],
  ['the last device gets no box', (fit) => fit.slice(0, -1)],
  ['a device gets two', (fit) => [fit[0]!, ...fit]],
  ['the list is not sorted', (fit) => [...fit].reverse()],
  ['a stranger gets one', (fit) => sortById([...fit.slice(1), createTestDevice('stranger', 'member')])],
]
for (const [title, spoil] of unfitLists) {
  add('epoch_members', title, async (log, isBroken) => {
    const epoch = nextEpochWithout(log.state)
    const holders = isBroken ? spoil(epoch.members) : epoch.members
    const members = holders.map(({ deviceId }) => ({ deviceId, boxHash: OTHER }))
    return rotate(log, { operation: { type: 'rotate', epoch: { ...epoch, members } } })
  })
}
add('epoch_members', 'a revoked device still gets a box', async (log, isBroken) => {
  const operation = revokeOf(log.state, log.member)
  if (operation.type !== 'revoke') throw new Error('not revoke')
  const epoch = isBroken ? nextEpochWithout(log.state) : operation.epoch
  return rotate(log, { operation: { ...operation, epoch } })
})
add('epoch_members', 'the replaced recovery device still gets a box', async (log, isBroken) => {
  const next = createTestDevice('phrase', 'recovery')
  if (!isBroken) return replaceRecovery(log, next)
  const epoch = createTestEpoch(2, [...nextEpochWithout(log.state).members, next])
  const heirProof = await signRecoveryHeir(log.recovery.signer, log.state.userId, next.record)
  return replaceRecovery(log, next, { operation: { type: 'recovery', record: next.record, heirProof, epoch } })
})
add('epoch_link', 'the first epoch links to one before it', async (log, isBroken) => {
  const operation = genesisOf(log.manager, log.recovery)
  if (operation.type !== 'genesis') throw new Error('not genesis')
  const links = isBroken ? [{ n: 0, boxHash: OTHER }] : []
  return genesis(log, { operation: { ...operation, epoch: { ...operation.epoch, links } } })
})
add('too_many_devices', 'a device joins fifty others', async (log, isBroken) => {
  let { state } = log
  for (let count = 3; count < (isBroken ? 50 : 49); count++) {
    state = mustApply(state, await craftAdd(state, log.manager, createTestDevice(`device ${count}`, 'member')))
  }
  return addRecord({ ...log, state }, log.newcomer)
})
add('too_many_devices', 'the recovery device adds a second one beyond fifty', async (log, isBroken) => {
  let { state } = log
  for (let count = 3; count < 50; count++) {
    state = mustApply(state, await craftAdd(state, log.manager, createTestDevice(`device ${count}`, 'member')))
  }
  if (isBroken) state = mustApply(state, await craftAdd(state, log.recovery, createTestDevice('recovered', 'manager')))
  return addRecord({ ...log, state }, log.newcomer, { by: log.recovery })
})
const withOneManager = async (log: TestLog): Promise<DeviceLogState> =>
  mustApply(log.state, await craftRevoke(log.state, log.manager, log.second))
add('last_manager', 'the last manager revokes itself', async (log, isBroken) => {
  const state = isBroken ? await withOneManager(log) : log.state
  return rotate({ ...log, state }, { operation: revokeOf(state, log.manager) })
})
add('last_manager', 'the last manager becomes a member', async (log, isBroken) => {
  const state = isBroken ? await withOneManager(log) : log.state
  const operation = { type: 'role', deviceId: log.manager.deviceId, role: 'member' } as const
  return rotate({ ...log, state }, { operation })
})
add('last_manager', 'the last manager but for a suspended one revokes itself', async (log, isBroken) => {
  const { state, manager, second, member } = log
  const suspended = mustApply(state, await craftSuspend(state, manager, isBroken ? second : member))
  return rotate({ ...log, state: suspended }, { operation: revokeOf(suspended, manager) })
})
add('last_manager', 'the last manager but for a suspended one becomes a member', async (log, isBroken) => {
  const { state, manager, second, member } = log
  const suspended = mustApply(state, await craftSuspend(state, manager, isBroken ? second : member))
  const operation = { type: 'role', deviceId: manager.deviceId, role: 'member' } as const
  return rotate({ ...log, state: suspended }, { operation })
})
for (const [title, links] of [
  ['an epoch links to itself', [3]],
  ['an epoch links to an epoch to come', [4]],
  ['an epoch links to epoch 0', [2, 0]],
  ['an epoch links to one twice', [2, 2]],
  ['the older link comes first', [1, 2]],
] as const) {
  add('epoch_link', title, async (log, isBroken) => {
    const { state } = after(log, await rotate(log))
    const epoch = createTestEpoch(3, nextEpochWithout(state).members, isBroken ? links : [2, 1])
    return rotate({ ...log, state }, { operation: { type: 'rotate', epoch } })
  })
}
add('epoch_members', 'a suspended device gets no box', async (log, isBroken) => {
  const { state, manager, member } = log
  const suspended = mustApply(state, await craftSuspend(state, manager, member))
  const epoch = isBroken ? nextEpochWithout(suspended, member) : nextEpochWithout(suspended)
  return rotate({ ...log, state: suspended }, { operation: { type: 'rotate', epoch } })
})
add('too_many_devices', 'a device joins fifty others, one of them suspended', async (log, isBroken) => {
  let { state } = log
  for (let count = 3; count < (isBroken ? 50 : 49); count++) {
    state = mustApply(state, await craftAdd(state, log.manager, createTestDevice(`device ${count}`, 'member')))
  }
  return addRecord(
    { ...log, state: mustApply(state, await craftSuspend(state, log.manager, log.member)) },
    log.newcomer,
  )
})
