// The rules about an entry as such: its bytes, its place in the log, its signer.

import { toUserId } from '@valise/protocol'
import { signClose, signDevicePop } from '../../src/device-log/build.ts'
import { encodeDeviceRecord } from '../../src/device-log/device-record.ts'
import { encodeOperation } from '../../src/device-log/operation.ts'
import {
  addOf,
  craftAdd,
  craftEntry,
  craftRevoke,
  craftSuspend,
  createTestDevice,
  createTestEpoch,
  genesisOf,
  mustApply,
  nextEpochWithout,
  revokeOf,
} from '../support/test-log.ts'
import {
  addRecord,
  closeBy,
  createRuleCases,
  genesis,
  OTHER,
  replaceRecovery,
  rotate,
  rotateOf,
  setByte,
} from './offers.ts'

const { cases, add } = createRuleCases()
export const entryCases = cases

add('malformed', 'a byte stands after the entry', async (log, isBroken) => {
  const { state, entry } = await rotate(log)
  return { state, entry: isBroken ? Uint8Array.of(...entry, 0) : entry }
})
add('malformed', 'the entry ends early', async (log, isBroken) => {
  const { state, entry } = await rotate(log)
  return { state, entry: isBroken ? entry.subarray(0, -1) : entry }
})
add('malformed', 'the body has another version', async (log, isBroken) =>
  rotate(log, isBroken ? { mendBody: (body) => setByte(body, 0, 2) } : {}),
)
add('malformed', 'a byte stands after the payload of the body', async (log, isBroken) =>
  rotate(log, isBroken ? { mendBody: (body) => Uint8Array.of(...body, 0) } : {}),
)
add('malformed', 'a byte stands after the operation', async (log, isBroken) => {
  const payload = encodeOperation(rotateOf(log.state))
  return rotate(log, { payload: isBroken ? Uint8Array.of(...payload, 0) : payload })
})
add('malformed', 'an operation without a new key bears a proof', async (log, isBroken) =>
  rotate(log, isBroken ? { proof: new Uint8Array(64) } : {}),
)
add('malformed', 'genesis without a recovery device bears a proof', async (log, isBroken) =>
  genesis(log, { operation: genesisOf(log.manager, undefined), proof: new Uint8Array(isBroken ? 64 : 0) }),
)
add('malformed', 'a proof is no signature', async (log, isBroken) => {
  const whole = await signDevicePop(log.newcomer.signer, log.state.userId, log.newcomer.record)
  return addRecord(log, log.newcomer, { proof: isBroken ? whole.subarray(0, 63) : whole })
})
add('malformed', 'a record has an unknown role', async (log, isBroken) => {
  const payload = encodeOperation(addOf(log.state, log.newcomer))
  return addRecord(log, log.newcomer, { payload: isBroken ? setByte(payload, 4, 4) : payload })
})
add('malformed', 'a record has an unknown KEM', async (log, isBroken) => {
  const payload = encodeOperation(addOf(log.state, log.newcomer))
  return addRecord(log, log.newcomer, { payload: isBroken ? setByte(payload, 4 + 1 + 32 + 1, 0x21) : payload })
})
for (const length of [31, 33]) {
  add('malformed', `a KEM key has ${length} bytes in place of 32`, async (log, isBroken) => {
    const record = { ...log.newcomer.record, kemPub: new Uint8Array(isBroken ? length : 32).fill(9) }
    return addRecord(log, { ...log.newcomer, record })
  })
}
add('malformed', 'a byte stands after the record', async (log, isBroken) => {
  const payload = encodeOperation(addOf(log.state, log.newcomer))
  const recordEnd = 4 + encodeDeviceRecord(log.newcomer.record).length
  const longer = Uint8Array.of(...payload.subarray(0, recordEnd), 0, ...payload.subarray(recordEnd))
  return addRecord(log, log.newcomer, { payload: isBroken ? setByte(longer, 3, recordEnd - 3) : payload })
})
add('malformed', 'what stands in place of a recovery record is none', async (log, isBroken) => {
  const operation = genesisOf(log.manager, undefined)
  const payload = encodeOperation(operation)
  const managerEnd = 32 + 4 + encodeDeviceRecord(log.manager.record).length
  const spoilt = Uint8Array.of(...payload.subarray(0, managerEnd), 0, 0, 0, 1, 7, ...payload.subarray(managerEnd + 4))
  return genesis(log, { operation, payload: isBroken ? spoilt : payload, proof: new Uint8Array(0) })
})
add('malformed', 'nobody is revoked', async (log, isBroken) => {
  const { state, manager, member } = log
  const operation = isBroken
    ? ({ type: 'revoke', devices: [], reason: 0, epoch: nextEpochWithout(state) } as const)
    : revokeOf(state, member)
  return { state, entry: await craftEntry({ state, by: manager, operation }) }
})
add('malformed', 'an epoch has more than eight links', async (log, isBroken) => {
  let { state } = log
  for (let n = 2; n <= 10; n++) state = mustApply(state, (await rotate({ ...log, state })).entry)
  const links = Array.from({ length: isBroken ? 9 : 8 }, (_, i) => 10 - i)
  const epoch = createTestEpoch(11, nextEpochWithout(state).members, links)
  return rotate({ ...log, state }, { operation: { type: 'rotate', epoch } })
})
add('malformed', 'a new recovery device is neither final nor pending', async (log, isBroken) => {
  const next = createTestDevice('phrase', 'recovery')
  const operation = { type: 'recovery', record: next.record, heirProof: new Uint8Array(0), epoch: undefined } as const
  const payload = encodeOperation(operation)
  return replaceRecovery(log, next, {
    operation,
    payload: isBroken ? setByte(payload, payload.length - 1, 2) : payload,
  })
})
for (const [title, spoil] of [
  ['ends early', (proof: Uint8Array) => proof.subarray(0, 63)],
  ['is missing a byte of none', () => new Uint8Array(1)],
] as const) {
  add('malformed', `the phrase's proof of a close ${title}`, async (log, isBroken) => {
    const proof = await signClose(log.recovery.signer, log.state)
    return closeBy(log, log.manager, isBroken ? spoil(proof) : proof)
  })
}
add('unknown_op', 'op 0', async (log, isBroken) => rotate(log, isBroken ? { header: { opCode: 0 } } : {}))
add('unknown_op', 'op 11', async (log, isBroken) => rotate(log, isBroken ? { header: { opCode: 11 } } : {}))
/** By the recovery device, no further proof is asked for. */
const AT_ONCE_BY_RECOVERY = { type: 'close', phraseProof: new Uint8Array(0) } as const
add('closed', 'an entry follows `close`', async (log, isBroken) => {
  const close = await craftEntry({ state: log.state, by: log.recovery, operation: AT_ONCE_BY_RECOVERY })
  return rotate({ ...log, state: isBroken ? mustApply(log.state, close) : log.state })
})
add('genesis', 'the log begins with another operation', async (log, isBroken) =>
  genesis(log, isBroken ? { operation: rotateOf(log.state) } : {}),
)
add('genesis', 'a second genesis continues the log', async (log, isBroken) =>
  isBroken ? rotate(log, { operation: genesisOf(log.manager, undefined) }) : rotate(log),
)
add('user_id', 'the entry is for another user', async (log, isBroken) =>
  rotate(log, isBroken ? { header: { userId: toUserId(OTHER)! } } : {}),
)
add('user_id', 'genesis names a user', async (log, isBroken) =>
  genesis(log, isBroken ? { header: { userId: toUserId(OTHER)! } } : {}),
)
add('seq', 'an entry is left out', async (log, isBroken) => rotate(log, isBroken ? { header: { seq: 4 } } : {}))
add('seq', 'another entry stands there already: a fork', async (log, isBroken) => {
  const { state, entry } = await rotate(log)
  const other = await craftAdd(log.state, log.second, log.newcomer)
  return { state: isBroken ? mustApply(log.state, other) : state, entry }
})
add('seq', 'the entry is played again', async (log, isBroken) => {
  const { state, entry } = await rotate(log)
  return { state: isBroken ? mustApply(state, entry) : state, entry }
})
add('seq', 'genesis is not the first', async (log, isBroken) => genesis(log, isBroken ? { header: { seq: 1 } } : {}))
add('prev', 'the entry follows another one', async (log, isBroken) =>
  rotate(log, isBroken ? { header: { prev: OTHER } } : {}),
)
add('prev', 'genesis follows something', async (log, isBroken) =>
  genesis(log, isBroken ? { header: { prev: OTHER } } : {}),
)
add('signer_unknown', 'a stranger signs', async (log, isBroken) =>
  rotate(log, isBroken ? { by: createTestDevice('stranger', 'manager') } : {}),
)
add('signer_inactive', 'a revoked manager signs', async (log, isBroken) => {
  const { state, manager, second, member } = log
  const after = mustApply(state, await craftRevoke(state, manager, isBroken ? second : member))
  return rotate({ ...log, state: after }, { by: second })
})
add('signer_suspended', 'a suspended manager signs', async (log, isBroken) => {
  const { state, manager, second, member } = log
  const after = mustApply(state, await craftSuspend(state, manager, isBroken ? second : member))
  return rotate({ ...log, state: after }, { by: second })
})
add('signer_role', 'a member signs', async (log, isBroken) => rotate(log, { by: isBroken ? log.member : log.second }))
add('signature', 'another key signs in the name of the signer', async (log, isBroken) =>
  rotate(log, isBroken ? { signer: log.second.signer } : {}),
)
add('signature', 'another key signs genesis', async (log, isBroken) =>
  genesis(log, isBroken ? { signer: log.second.signer } : {}),
)
