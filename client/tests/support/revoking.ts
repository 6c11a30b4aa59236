// What tests of revocations do with their devices, and how they look at one that has stopped.

import type { DeviceId } from '@valise/protocol'
import { type TestDevice, text } from './test-device.ts'
import { until } from './until.ts'

export const revoke = (by: TestDevice, ...devices: TestDevice[]): Promise<boolean> =>
  by.client.revokeDevices({ deviceIds: devices.map(({ identity }) => identity.deviceId), reason: 'lost' })
export const start = async (...devices: TestDevice[]): Promise<void> => {
  for (const { client } of devices) client.start()
  await Promise.all(devices.map(({ client }) => client.whenLive()))
}
export const publish = async ({ client }: TestDevice, ...values: string[]): Promise<void> => {
  for (const value of values) await client.publish('notes', text(value))
  await client.flush()
}
export const stopCode = ({ client }: TestDevice): string | undefined => {
  const state = client.state()
  if (state.type !== 'stopped') return undefined
  return state.cause.type === 'alarm'
    ? state.cause.alarm.code
    : state.cause.type === 'refused'
      ? state.cause.code
      : 'closed'
}
export const stopped = (device: TestDevice): Promise<void> =>
  until(() => device.client.state().type === 'stopped', 'the device to stop')
export const codeOf = (attempt: Promise<unknown>): Promise<string> =>
  attempt.then(
    () => 'done',
    (error: { code?: string; stopCause?: { code?: string } }) => error.code ?? error.stopCause?.code ?? String(error),
  )

export const sameId = (id: DeviceId, { identity }: TestDevice): boolean => Buffer.from(id).equals(identity.deviceId)
