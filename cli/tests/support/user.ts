// A user with two devices, laptop and phone, made by init, link and approve.
import { join } from 'node:path'
import { expect } from 'vitest'
import type { TestServer } from './server.ts'
import { runValise, startValise } from './valise.ts'

export interface TwoDevices {
  readonly laptop: string
  readonly phone: string
}

export async function initDevice(server: TestServer, home: string, name = 'laptop'): Promise<void> {
  const initialised = await runValise(['init', '--server', server.url, '--name', name], { home })
  expect(initialised).toMatchObject({ exitCode: 0, stderr: '' })
}

export async function makeTwoDevices(server: TestServer, folder: string): Promise<TwoDevices> {
  const laptop = join(folder, 'laptop')
  const phone = join(folder, 'phone')
  await initDevice(server, laptop)
  const linking = startValise(['link', '--server', server.url, '--name', 'phone', '--json'], { home: phone })
  await linking.until('the request', ({ stdout }) => stdout.includes('\n'))
  const { request } = JSON.parse(linking.stdout.toString().split('\n')[0]!)
  expect(await runValise(['approve', request, '--yes'], { home: laptop })).toMatchObject({ exitCode: 0, stderr: '' })
  expect(await linking.ended()).toMatchObject({ exitCode: 0, stderr: '' })
  return { laptop, phone }
}
