// The rules about suspensions, and about what waits: a new recovery device and the end of the account.

import { type DeviceLogState, entryHash } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { signClose, signRecoveryHeir } from '../../src/device-log/build.ts'
import type { Operation } from '../../src/device-log/operation.ts'
import {
  craftGenesis,
  craftRevoke,
  craftSuspend,
  createTestDevice,
  createTestEpoch,
  cutOf,
  mustApply,
  nextEpochWithout,
  revokeOf,
  type TestDevice,
  type TestLog,
} from '../support/test-log.ts'
import { addRecord, after, askForRecovery, closeBy, createRuleCases, OTHER, replaceRecovery, rotate } from './offers.ts'

const { cases, add } = createRuleCases()
export const pendingCases = cases

const suspendOf = (device: TestDevice): Operation => ({ type: 'suspend', device: cutOf(device) })
const suspended = async (log: TestLog, device: TestDevice): Promise<TestLog> => ({
  ...log,
  state: mustApply(log.state, await craftSuspend(log.state, log.manager, device)),
})

const phrase = createTestDevice('phrase', 'recovery')
const NO_PROOF = new Uint8Array(0)

add('unknown_device', 'a stranger is suspended', async (log, isBroken) =>
  rotate(log, { operation: suspendOf(isBroken ? log.newcomer : log.member) }),
)
add('device_inactive', 'a revoked device is suspended', async (log, isBroken) => {
  const state = mustApply(log.state, await craftRevoke(log.state, log.manager, isBroken ? log.member : log.second))
  return rotate({ ...log, state }, { operation: suspendOf(log.member) })
})
add('device_suspended', 'a device is suspended again', async (log, isBroken) =>
  rotate(await suspended(log, isBroken ? log.member : log.second), { operation: suspendOf(log.member) }),
)
for (const role of ['member', 'manager'] as const) {
  add('device_suspended', `a suspended device becomes a ${role}`, async (log, isBroken) => {
    const device = role === 'member' ? log.second : log.member
    const other = role === 'member' ? log.member : log.second
    const operation = { type: 'role', deviceId: device.deviceId, role } as const
    return rotate(await suspended(log, isBroken ? device : other), { operation })
  })
}
add('suspend_target', 'a manager suspends itself', async (log, isBroken) =>
  rotate(log, { operation: suspendOf(isBroken ? log.manager : log.second) }),
)
add('suspend_target', 'a manager suspends the recovery device', async (log, isBroken) =>
  rotate(log, { operation: suspendOf(isBroken ? log.recovery : log.second) }),
)
add('suspend_target', 'the recovery device suspends itself', async (log, isBroken) =>
  rotate(log, { by: log.recovery, operation: suspendOf(isBroken ? log.recovery : log.second) }),
)
for (const [title, cut] of [
  ['seq', { lastSeq: 8 }],
  ['chain', { chain: OTHER }],
] as const) {
  add('cut_differs', `a suspended device is revoked with another ${title}`, async (log, isBroken) => {
    const after = await suspended(log, log.member)
    const operation = revokeOf(after.state, log.member)
    if (operation.type !== 'revoke') throw new Error('not revoke')
    const device = { ...cutOf(log.member), ...(isBroken ? cut : {}) }
    return rotate(after, { operation: { ...operation, devices: [device] } })
  })
}
add('recovery_irrevocable', 'a manager revokes the recovery device', async (log, isBroken) =>
  rotate(log, { operation: revokeOf(log.state, isBroken ? log.recovery : log.member) }),
)
add('recovery_irrevocable', 'the recovery device revokes itself', async (log, isBroken) =>
  rotate(log, { by: log.recovery, operation: revokeOf(log.state, isBroken ? log.recovery : log.member) }),
)

const asks = (isFinal: boolean, state: DeviceLogState, log: TestLog): Operation => ({
  type: 'recovery',
  record: phrase.record,
  heirProof: NO_PROOF,
  epoch: isFinal
    ? createTestEpoch(state.epoch.n + 1, [...nextEpochWithout(state, log.recovery).members, phrase])
    : undefined,
})
add('recovery_form', 'a manager without the phrase replaces it at once', async (log, isBroken) =>
  replaceRecovery(log, phrase, { operation: asks(isBroken, log.state, log) }),
)
add('recovery_form', 'the recovery device asks for a new one in place of making it', async (log, isBroken) =>
  replaceRecovery(log, phrase, { by: log.recovery, operation: asks(!isBroken, log.state, log) }),
)
add(
  'recovery_form',
  'a manager of an account without a phrase asks for one in place of making it',
  async (log, isBroken) => {
    const state = mustApply(undefined, await craftGenesis(log.manager, undefined))
    return replaceRecovery({ ...log, state }, phrase, { operation: asks(!isBroken, state, log) })
  },
)
add('recovery_form', 'a manager asks for a new phrase with the proof of the old one', async (log, isBroken) => {
  const heirProof = await signRecoveryHeir(log.recovery.signer, log.state.userId, phrase.record)
  const operation = { ...asks(!isBroken, log.state, log), heirProof } as Operation
  return replaceRecovery(log, phrase, { operation })
})
for (const [title, signedBy, record] of [
  ['a manager signs in place of the old recovery device', 'manager', phrase.record],
  ['the old recovery device signed for another new one', 'recovery', createTestDevice('other', 'recovery').record],
] as const) {
  add('phrase_proof', title, async (log, isBroken) => {
    const { signer } = isBroken ? log[signedBy] : log.recovery
    const signed = isBroken ? record : phrase.record
    const heirProof = await signRecoveryHeir(signer, log.state.userId, signed)
    return replaceRecovery(log, phrase, { operation: { ...asks(true, log.state, log), heirProof } as Operation })
  })
}
add('phrase_proof', 'a proof comes where no recovery device is active', async (log, isBroken) => {
  const state = mustApply(undefined, await craftGenesis(log.manager, undefined))
  const heirProof = isBroken ? await signRecoveryHeir(log.recovery.signer, state.userId, phrase.record) : NO_PROOF
  return replaceRecovery({ ...log, state }, phrase, {
    operation: { ...asks(true, state, log), heirProof } as Operation,
  })
})
add('phrase_proof', 'a manager signs a close in place of the recovery device', async (log, isBroken) =>
  closeBy(log, log.second, await signClose((isBroken ? log.second : log.recovery).signer, log.state)),
)
add('phrase_proof', 'the recovery device signed a close for an older head', async (log, isBroken) => {
  const later = after(log, await rotate(log))
  return closeBy(later, log.manager, await signClose(log.recovery.signer, isBroken ? log.state : later.state))
})
add('phrase_proof', 'the proof of a new recovery device serves to close', async (log, isBroken) => {
  const { signer, record } = log.recovery
  const stolen = await signRecoveryHeir(signer, log.state.userId, record)
  return closeBy(log, log.manager, isBroken ? stolen : await signClose(signer, log.state))
})
add('close_pending', 'another manager asks to close, too', async (log, isBroken) => {
  const asked = after(log, await closeBy(log, log.manager))
  return closeBy(isBroken ? asked : log, log.second)
})
add('close_pending', 'the same manager asks to close again', async (log, isBroken) => {
  const asked = after(log, await closeBy(log, log.manager))
  const { signer } = log.recovery
  return closeBy(asked, log.manager, isBroken ? NO_PROOF : await signClose(signer, asked.state))
})

/** A settle or a cancel of the entry, by the signer. */
const settle = (log: TestLog, by: TestDevice, hash: Uint8Array, settled = phrase) => {
  const { state, recovery } = log
  const members = [...nextEpochWithout(state, recovery).members, settled]
  return rotate(log, { by, operation: { type: 'settle', hash, epoch: createTestEpoch(state.epoch.n + 1, members) } })
}
const hashOf = ({ entry }: { readonly entry: Uint8Array }): Uint8Array => entryHash(crypto, entry)

add('nothing_pending', 'what was never asked for is settled', async (log, isBroken) => {
  const asked = await askForRecovery(log, phrase)
  return settle(after(log, asked), log.manager, isBroken ? OTHER : hashOf(asked))
})
add('nothing_pending', 'another manager settles', async (log, isBroken) => {
  const asked = await askForRecovery(log, phrase)
  return settle(after(log, asked), isBroken ? log.second : log.manager, hashOf(asked))
})
add('nothing_pending', 'a pending close is settled', async (log, isBroken) => {
  const asked = await askForRecovery(log, phrase)
  const both = after(log, asked)
  const close = await closeBy(both, log.manager)
  return settle(after(both, close), log.manager, isBroken ? hashOf(close) : hashOf(asked))
})
add('nothing_pending', 'what a later one took the place of is settled', async (log, isBroken) => {
  const first = await askForRecovery(log, createTestDevice('first phrase', 'recovery'))
  const second = await askForRecovery(after(log, first), phrase)
  return settle(after(log, second), log.manager, hashOf(isBroken ? first : second))
})
add('nothing_pending', 'what was never asked for is cancelled', async (log, isBroken) => {
  const asked = await closeBy(log, log.manager)
  return rotate(after(log, asked), {
    by: log.second,
    operation: { type: 'cancel', hash: isBroken ? OTHER : hashOf(asked) },
  })
})

/** What each of these leaves pending or not: the broken case settles what fell, the mended one what stands. */
const enders: readonly (readonly [
  string,
  (log: TestLog) => Promise<Uint8Array>,
  (log: TestLog) => Promise<Uint8Array>,
])[] = [
  [
    'its signer was suspended',
    ({ state, second, manager }) => craftSuspend(state, second, manager),
    ({ state, second, member }) => craftSuspend(state, second, member),
  ],
  [
    'the recovery device signed an entry',
    async (log) => (await rotate(log, { by: log.recovery })).entry,
    async (log) => (await rotate(log, { by: log.second })).entry,
  ],
]
for (const [title, end, leave] of enders) {
  add('nothing_pending', `what fell is cancelled: ${title}`, async (log, isBroken) => {
    const asked = await askForRecovery(log, phrase)
    const waiting = after(log, asked)
    const entry = await (isBroken ? end : leave)(waiting)
    const state = mustApply(waiting.state, entry)
    return rotate({ ...log, state }, { by: log.second, operation: { type: 'cancel', hash: hashOf(asked) } })
  })
}
add('key_reused', 'a recovery device whose pending entry fell comes again', async (log, isBroken) => {
  const asked = await askForRecovery(log, phrase)
  const waiting = after(log, asked)
  const cancelled = after(waiting, await rotate(waiting, { operation: { type: 'cancel', hash: hashOf(asked) } }))
  return askForRecovery(isBroken ? cancelled : log, phrase)
})
for (const key of ['edPub', 'kemPub'] as const) {
  add('key_reused', `a device comes with the ${key} of a pending recovery device`, async (log, isBroken) => {
    const { state } = after(log, await askForRecovery(log, phrase))
    const { signer, record } = log.newcomer
    const isSigner = isBroken && key === 'edPub'
    const kemPub = isBroken && key === 'kemPub' ? phrase.record.kemPub : record.kemPub
    const edPub = isSigner ? phrase.record.edPub : record.edPub
    const device = { ...log.newcomer, signer: isSigner ? phrase.signer : signer, record: { ...record, edPub, kemPub } }
    return addRecord({ ...log, state }, device)
  })
}
