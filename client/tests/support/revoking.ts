// What tests of revocations do with their devices, and how they look at one that has stopped.

import { type DeviceId, isSameId } from '@valise/protocol'
import type { DevicePair } from './device-pair.ts'
import { type TestDevice, text } from './test-device.ts'
import { until } from './until.ts'

export const revoke = (by: TestDevice, ...devices: TestDevice[]): Promise<boolean> =>
  by.client.revokeDevices({ deviceIds: devices.map(({ identity }) => identity.deviceId), reason: 'lost' })
/**
 * The first device revokes the second while it is not told of what that publishes, sees it after a restart, and closes:
 * it holds one event, `void`, beyond the cut.
 */
export async function leaveOneBeyondCut({ server, first, second }: DevicePair): Promise<void> {
  const cursor = first.client.cursor()
  for (const peer of server.peers) if (isSameId(peer.deviceId, first.identity.deviceId)) peer.isLive = false
  await publish(second, 'void')
  await revoke(first, second)
  await first.restart()
  first.client.start()
  await until(() => first.client.cursor() === cursor + 1, 'the event beyond the cut')
  await first.client.close()
}
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
