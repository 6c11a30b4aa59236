// A user with two devices, laptop and phone, made by init, link and approve.
import { basename, join } from 'node:path'
import { expect } from 'vitest'
import type { TestServer } from './server.ts'
import { lastJson, runValise, startValise } from './valise.ts'

export interface TwoDevices {
  readonly laptop: string
  readonly phone: string
  readonly phrase: string
}

/** Resolves to the phrase of the new account. */
export async function initDevice(server: TestServer, home: string, name = 'laptop'): Promise<string> {
  const initialised = await runValise(['init', '--server', server.url, '--name', name, '--json'], { home })
  expect(initialised).toMatchObject({ exitCode: 0, stderr: '' })
  return String(lastJson(initialised.stdout)['recovery_phrase'])
}

export async function makeTwoDevices(server: TestServer, folder: string): Promise<TwoDevices> {
  const laptop = join(folder, 'laptop')
  const phone = join(folder, 'phone')
  const phrase = await initDevice(server, laptop)
  await linkDevice(server, laptop, phone)
  return { laptop, phone, phrase }
}

/** Another device at `home`, named as its folder, which the one at `manager` lets in. Resolves to its home. */
export async function linkDevice(server: TestServer, manager: string, home: string): Promise<string> {
  const linking = startValise(['link', '--server', server.url, '--name', basename(home), '--json'], { home })
  await linking.until('the request', ({ stdout }) => stdout.includes('\n'))
  const { request } = JSON.parse(linking.stdout.toString().split('\n')[0]!)
  expect(await runValise(['approve', request, '--yes'], { home: manager })).toMatchObject({ exitCode: 0, stderr: '' })
  expect(await linking.ended()).toMatchObject({ exitCode: 0, stderr: '' })
  return home
}
