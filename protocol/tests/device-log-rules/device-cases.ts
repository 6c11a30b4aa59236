// The rules about the devices that enter: keys, roles, proofs of possession.

import { type DeviceLogState, KEM_X_WING, KEM_X25519, toDeviceId, toUserId } from '@valise/protocol'
import { fromHex } from '../../src/bytes.ts'
import { signDevicePop } from '../../src/device-log/build.ts'
import { parseSignedEntry } from '../../src/device-log/entry.ts'
import { craftGenesis, craftRevoke, createTestDevice, genesisOf, mustApply, type TestLog } from '../support/test-log.ts'
import { hex, readFigures } from '../support/vectors.ts'
import { addRecord, createRuleCases, genesis, OTHER, replaceRecovery, rotate } from './offers.ts'

const { cases, add } = createRuleCases()
export const deviceCases = cases

const withoutRecovery = async (log: TestLog): Promise<DeviceLogState> =>
  mustApply(undefined, await craftGenesis(log.manager, undefined))
const SMALL_ORDER_KEYS = [
  `01${'00'.repeat(31)}`,
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa',
  `${'00'.repeat(31)}80`,
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85',
  `ec${'ff'.repeat(30)}7f`,
  '00'.repeat(32),
  `01${'00'.repeat(30)}80`,
  `ec${'ff'.repeat(31)}`,
  `ed${'ff'.repeat(30)}7f`,
  `ed${'ff'.repeat(31)}`,
  `ee${'ff'.repeat(30)}7f`,
  `ee${'ff'.repeat(31)}`,
].map((hex) => fromHex(hex)!)
for (const [index, edPub] of SMALL_ORDER_KEYS.entries()) {
  add('small_order_key', `a new device has small-order key ${index + 1} of 14`, async (log, isBroken) => {
    const { newcomer } = log
    return addRecord(log, isBroken ? { ...newcomer, record: { ...newcomer.record, edPub } } : newcomer)
  })
}
/** Every public key of the vectors with which all secrets agree on zero. */
const LOW_ORDER_X25519_KEYS = [
  ...new Set(
    readFigures<{ public: string; shared: string }>('x25519')
      .filter(({ shared }) => shared === '00'.repeat(32))
      .map((test) => test.public),
  ),
]
for (const text of LOW_ORDER_X25519_KEYS) {
  add('small_order_key', `an X25519 key has small order: ${text}`, async (log, isBroken) => {
    const kemPub = isBroken ? hex(text) : OTHER
    return addRecord(log, { ...log.newcomer, record: { ...log.newcomer.record, kemId: KEM_X25519, kemPub } })
  })
  add('small_order_key', `the X25519 part of an X-Wing key has small order: ${text}`, async (log, isBroken) => {
    const kemPub = new Uint8Array(1216).fill(9)
    if (isBroken) kemPub.set(hex(text), 1184)
    return addRecord(log, { ...log.newcomer, record: { ...log.newcomer.record, kemId: KEM_X_WING, kemPub } })
  })
}
add('small_order_key', 'the recovery device has a small-order key', async (log, isBroken) => {
  const { recovery, manager } = log
  const edPub = isBroken ? SMALL_ORDER_KEYS[0]! : recovery.record.edPub
  return genesis(log, { operation: genesisOf(manager, { ...recovery, record: { ...recovery.record, edPub } }) })
})
add('small_order_key', 'the first device has an X25519 key of small order', async (log, isBroken) => {
  // Mended it is the device that registers: its id is made of the key.
  const by = isBroken ? createTestDevice('manager', 'manager', hex(LOW_ORDER_X25519_KEYS[0]!)) : log.manager
  return genesis(log, { by, operation: genesisOf(by, log.recovery) })
})
add('device_id', 'the signer of genesis is another device', async (log, isBroken) =>
  genesis(log, isBroken ? { header: { signer: toDeviceId(OTHER.subarray(0, 16))! } } : {}),
)
add('role', 'the first device is a member', async (log, isBroken) => {
  const record = { ...log.manager.record, role: isBroken ? 'member' : 'manager' } as const
  return genesis(log, { operation: genesisOf({ ...log.manager, record }, log.recovery) })
})
add('role', 'the recovery device of genesis is a manager', async (log, isBroken) => {
  const record = { ...log.recovery.record, role: isBroken ? 'manager' : 'recovery' } as const
  return genesis(log, { operation: genesisOf(log.manager, { ...log.recovery, record }) })
})
add('role', '`add` makes a recovery device', async (log, isBroken) => {
  const state = await withoutRecovery(log)
  const record = { ...log.newcomer.record, role: isBroken ? 'recovery' : 'member' } as const
  return addRecord({ ...log, state }, { ...log.newcomer, record })
})
add('role', 'a new recovery device is a manager', async (log, isBroken) =>
  replaceRecovery(log, createTestDevice('phrase', isBroken ? 'manager' : 'recovery')),
)
for (const [title, pick] of [
  ['a member becomes a recovery device', (log: TestLog) => [log.member, 'recovery'] as const],
  ['the recovery device becomes a manager', (log: TestLog) => [log.recovery, 'manager'] as const],
] as const) {
  add('role', title, async (log, isBroken) => {
    const [device, role] = isBroken ? pick(log) : ([log.member, 'manager'] as const)
    return rotate(log, { operation: { type: 'role', deviceId: device.deviceId, role } })
  })
}
add('key_reused', 'a device is added twice', async (log, isBroken) =>
  addRecord(log, isBroken ? log.member : log.newcomer),
)
add('key_reused', 'a revoked device comes back', async (log, isBroken) => {
  const state = mustApply(log.state, await craftRevoke(log.state, log.manager, log.member))
  return addRecord({ ...log, state }, isBroken ? log.member : log.newcomer)
})
add('key_reused', 'a signing key comes with another KEM key', async (log, isBroken) => {
  const { signer, record } = isBroken ? log.member : log.newcomer
  return addRecord(log, { ...log.newcomer, signer, record: { ...record, kemPub: OTHER } })
})
add('key_reused', 'a KEM key comes with another signing key', async (log, isBroken) => {
  const { kemPub } = isBroken ? log.member.record : log.newcomer.record
  return addRecord(log, { ...log.newcomer, record: { ...log.newcomer.record, kemPub } })
})
add('key_reused', 'the recovery device has the KEM key of the manager', async (log, isBroken) => {
  const { manager, recovery } = log
  if (!isBroken) return genesis(log)
  const record = { ...recovery.record, kemPub: manager.record.kemPub }
  return genesis(log, { operation: genesisOf(manager, { ...recovery, record }) })
})
add('genesis_pop', 'the recovery device proved nothing', async (log, isBroken) =>
  genesis(log, isBroken ? { proof: new Uint8Array(0) } : {}),
)
add('genesis_pop', 'the recovery device proved its record, not this genesis', async (log, isBroken) => {
  const stolen = await signDevicePop(log.recovery.signer, log.state.userId, log.recovery.record)
  return genesis(log, isBroken ? { proof: stolen } : {})
})
add('genesis_pop', 'a false genesis is built around a recovery record and its proof', async (log, isBroken) => {
  const proof = parseSignedEntry(log.entries[0]!)!.proof
  const by = isBroken ? createTestDevice('thief', 'manager') : log.manager
  return genesis(log, { by, operation: genesisOf(by, log.recovery), proof })
})
add('device_pop', 'the new device proved nothing', async (log, isBroken) =>
  addRecord(log, log.newcomer, isBroken ? { proof: new Uint8Array(0) } : {}),
)
add('device_pop', 'the proof is for another user', async (log, isBroken) => {
  const { signer, record } = log.newcomer
  const userId = isBroken ? toUserId(OTHER)! : log.state.userId
  return addRecord(log, log.newcomer, { proof: await signDevicePop(signer, userId, record) })
})
add('device_pop', 'the manager signs in place of the new device', async (log, isBroken) => {
  const signer = isBroken ? log.manager.signer : log.newcomer.signer
  return addRecord(log, log.newcomer, {
    proof: await signDevicePop(signer, log.state.userId, log.newcomer.record),
  })
})
add('device_pop', 'a member is let in as a manager', async (log, isBroken) => {
  const { newcomer, state } = log
  const record = { ...newcomer.record, role: isBroken ? 'manager' : 'member' } as const
  const proof = await signDevicePop(newcomer.signer, state.userId, newcomer.record)
  return addRecord(log, { ...newcomer, record }, { proof })
})
add('device_pop', 'a new recovery device proved nothing', async (log, isBroken) => {
  const next = createTestDevice('phrase', 'recovery')
  return replaceRecovery(log, next, isBroken ? { proof: new Uint8Array(64) } : {})
})
add('second_recovery', 'a recovery device joins another', async (log, isBroken) => {
  const record = { ...log.newcomer.record, role: isBroken ? 'recovery' : 'member' } as const
  return addRecord(log, { ...log.newcomer, record })
})
