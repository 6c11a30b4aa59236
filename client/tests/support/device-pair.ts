// Two devices of one user at one server, and how a test watches them.

import type { Client } from '../../src/client.ts'
import { createFirstDevice, createNextDevice, type TestDevice, type TestDeviceOptions, text } from './test-device.ts'
import { createTestServer, type TestServer } from './test-server.ts'
import { until } from './until.ts'

export interface DevicePair {
  readonly server: TestServer
  readonly first: TestDevice
  readonly second: TestDevice
}

export async function createPair(options: TestDeviceOptions = {}): Promise<DevicePair> {
  const server = createTestServer()
  const first = await createFirstDevice(server, options)
  return { server, first, second: await createNextDevice(server, first, options) }
}

export async function publishAll(client: Client, values: readonly string[], stream = 'notes'): Promise<void> {
  for (const value of values) await client.publish(stream, text(value))
}

/** The code of the alarm or refusal that stopped the client. */
export function stopCode(client: Client): string | undefined {
  const state = client.state()
  if (state.type !== 'stopped') return undefined
  if (state.cause.type === 'alarm') return state.cause.alarm.code
  return state.cause.type === 'refused' ? state.cause.code : 'closed'
}

export async function waitForStop(client: Client): Promise<string | undefined> {
  await until(() => client.state().type === 'stopped', 'the client to stop')
  return stopCode(client)
}
