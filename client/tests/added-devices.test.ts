// What a device tells of others that come into its account: each once, however often it comes back, and none that it let
// in itself.

import { type DeviceId, signDevicePop, toHex } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { beforeEach, expect, test } from 'vitest'
import type { AddedDevice } from '../src/account/added-devices.ts'
import { formatDeviceFingerprint } from '../src/account/fingerprint.ts'
import { createDeviceKeys, type DeviceKeys } from '../src/sealing/device-keys.ts'
import { storeKeys } from '../src/store/layout.ts'
import { put } from '../src/store/store.ts'
import { createFirstDevice, createNextDevice, type TestDevice } from './support/test-device.ts'
import { createTestServer, type TestServer } from './support/test-server.ts'
import { until } from './support/until.ts'

let server: TestServer
let first: TestDevice
let told: AddedDevice[]
beforeEach(async () => {
  server = createTestServer()
  first = await createFirstDevice(server)
  told = []
})

const listen = () => first.client.onDeviceAdded((device) => told.push(device))
const idsOf = (devices: readonly { readonly deviceId: Uint8Array }[]) => devices.map(({ deviceId }) => toHex(deviceId))

async function start(): Promise<void> {
  first.client.start()
  await first.client.whenLive()
}
/** As a process that does one thing and ends. */
async function comeBack(): Promise<void> {
  await first.restart()
  await start()
}

async function letIn(): Promise<DeviceKeys> {
  const keys = await createDeviceKeys(crypto, 'member')
  const proof = await signDevicePop(keys.signer, first.identity.userId, keys.record)
  await first.client.addDevice({ record: keys.record, proof })
  return keys
}
/** By somebody who is not this client, and of whom it hears at its next session. */
const addedElsewhere = async (): Promise<DeviceId> => (await createNextDevice(server, first)).identity.deviceId

test('PAIR-8: a device that another added is told once, with its fingerprint, also after the end of the process', async () => {
  const deviceId = await addedElsewhere()
  await start()
  expect(told).toEqual([])
  const stop = listen()
  expect(told).toMatchObject([{ role: 'member', addedSeq: 1, deviceFingerprint: formatDeviceFingerprint(deviceId) }])
  expect(idsOf(told)).toEqual([toHex(deviceId)])
  await comeBack()
  listen()
  expect(told).toHaveLength(1)
  // Of whoever comes next it is told while it listens.
  stop()
  const next = await addedElsewhere()
  server.cut()
  await until(() => {
    first.clock.advance(1000)
    return told.length === 2
  }, 'the next device')
  expect(idsOf(told)).toEqual([toHex(deviceId), toHex(next)])
})

test('PAIR-8: nobody listens: it is told at the next time that somebody does', async () => {
  const deviceId = await addedElsewhere()
  await start()
  await comeBack()
  listen()
  expect(idsOf(told)).toEqual([toHex(deviceId)])
})

test('PAIR-8: what this device let in is no news to it, whether it listens or not', async () => {
  await start()
  listen()
  await letIn()
  await letIn()
  expect(told).toEqual([])
  await comeBack()
  listen()
  expect(told).toEqual([])
})

test('PAIR-8: a device that others added just before this one let in another is told all the same', async () => {
  const deviceId = await addedElsewhere()
  await start()
  await letIn()
  await comeBack()
  await letIn()
  await comeBack()
  listen()
  expect(idsOf(told)).toEqual([toHex(deviceId)])
  await comeBack()
  listen()
  expect(told).toHaveLength(1)
})

test('PAIR-8: a device hears of none that was there before it', async () => {
  await addedElsewhere()
  const late = await createNextDevice(server, first)
  late.client.onDeviceAdded((device) => told.push(device))
  late.client.start()
  await late.client.whenLive()
  expect(told).toEqual([])
})

test('PAIR-8: a new recovery phrase is no device that was added', async () => {
  await start()
  listen()
  const keys = await createDeviceKeys(crypto, 'recovery')
  expect(await first.client.replaceRecovery({ keys, heirProof: undefined })).toBe('pending')
  expect(server.state?.seq).toBe(1)
  expect(told).toEqual([])
})

test('PAIR-8: a record of what was told that is damaged stops the device', async () => {
  await first.client.close()
  await first.store.batch([put(storeKeys.toldOfDevices, new Uint8Array(9))])
  await expect(first.restart()).rejects.toMatchObject({ alarm: { code: 'store_damaged' } })
})
