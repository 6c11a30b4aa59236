// What a person at a terminal reads while the server takes things later.

import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startServer, type TestServer } from './support/server.ts'
import { initDevice } from './support/user.ts'
import { cleanUp, jsonLines, makeFolder, runValise, startValise } from './support/valise.ts'

const MORE_THAN_ANY_DISK = String(2 ** 50)

let folder: string
let server: TestServer
let laptop: string
const environment: Record<string, string> = {
  VALISE_REGISTRATIONS_PER_HOUR: '1',
  VALISE_REGISTRATIONS_BURST: '1',
}

beforeAll(async () => {
  folder = makeFolder()
  server = await startServer(folder, { environment })
  laptop = join(folder, 'laptop')
  await initDevice(server, laptop)
}, 120_000)
afterAll(cleanUp)

const startAgainWith = async (changes: Record<string, string>): Promise<void> => {
  await server.stop()
  Object.assign(environment, changes)
  await server.startAgain()
}

describe('a server that takes things later', () => {
  it('LIM-27, CLI-5: init says when to try again', async () => {
    const args = ['init', '--server', server.url, '--json']
    const { exitCode, stderr } = await runValise(args, { home: join(folder, 'second') })
    expect(exitCode).toBe(1)
    expect(jsonLines(Buffer.from(stderr)).at(-1)).toMatchObject({
      error: 'registration_limited',
      message: expect.stringMatching(/Try again in \d+ minutes?\./),
    })
  })

  it('LIM-28: send says why nothing gets its receipt, keeps the lines, and says when they are taken again', async () => {
    await startAgainWith({ VALISE_STORAGE_CRITICAL_BYTES: MORE_THAN_ANY_DISK })
    const sending = startValise(['send', 'notes'], { home: laptop, input: 'kept\n' })
    await sending.until('the reason', ({ stderr }) => stderr.includes('short of storage'))
    expect(sending.stdout.toString()).toBe('')
    expect(sending.stderr.toString()).toContain('kept on this device')
    await startAgainWith({ VALISE_STORAGE_CRITICAL_BYTES: '0' })
    expect(await sending.ended()).toMatchObject({ exitCode: 0, stderr: expect.stringContaining('takes events again') })
    expect(sending.stdout.toString()).toMatch(/^stored event_id .*duplicate false\n$/)
  })
})
