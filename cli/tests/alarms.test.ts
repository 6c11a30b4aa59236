// What must not happen is told loudly, with what to do, and ends with an exit code of its own.
import { cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { openFileStore } from '@valise/client/node'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startServer, type TestServer } from './support/server.ts'
import { initDevice, makeTwoDevices } from './support/user.ts'
import { cleanUp, lastJson, makeFolder, runValise } from './support/valise.ts'

let folder: string
let server: TestServer

beforeAll(async () => {
  folder = makeFolder()
  server = await startServer(folder)
})
afterAll(cleanUp)

describe('a client that stops for good', () => {
  it('ORD-1: a home that was copied and used twice is told, and ends with 3', async () => {
    const home = join(folder, 'original')
    const copy = join(folder, 'copy')
    await initDevice(server, home)
    cpSync(home, copy, { recursive: true })
    expect((await runValise(['send', 'notes'], { home, input: 'one\n' })).exitCode).toBe(0)
    const cloned = await runValise(['send', 'notes'], { home: copy, input: 'another\n' })
    expect(cloned.stderr).toContain('ALARM')
    expect(cloned.stderr).toContain('Link this device anew')
    expect(cloned.exitCode).toBe(3)
  })

  it('SES-1: another server key at the same address is told, for send and watch, and ends with 3', async () => {
    const own = makeFolder()
    const its = await startServer(own)
    const home = join(own, 'laptop')
    await initDevice(its, home)
    await its.stop()
    rmSync(join(own, 'server', 'identity.key'))
    rmSync(join(own, 'server', 'identity-next.key'))
    await its.startAgain()
    for (const command of ['send', 'watch']) {
      const stopped = await runValise([command, 'notes', '--json'], { home, input: 'a secret\n' })
      expect(JSON.parse(stopped.stderr.trimEnd().split('\n').at(-1)!)).toMatchObject({ error: 'wrong_server_key' })
      expect(stopped.exitCode).toBe(3)
    }
    const status = await runValise(['status'], { home })
    expect(status.stdout.toString()).toContain('ANOTHER KEY')
  })
})

describe('verify', () => {
  it('CLI-7: an event that was changed on the disk is found, offline, and ends with 3', async () => {
    const { laptop, phone } = await makeTwoDevices(server, makeFolder())
    await runValise(['send', 'notes'], { home: laptop, input: 'one\ntwo\nthree\n' })
    await runValise(['watch', 'notes', '--count', '3'], { home: phone })
    await damageOneEvent(phone)
    const { exitCode, stdout, stderr } = await runValise(['verify', '--json'], { home: phone })
    expect(exitCode).toBe(3)
    expect(lastJson(stdout)).toMatchObject({ sound: false })
    expect(stderr).toContain('ALARM')
    expect((await runValise(['verify'], { home: laptop })).exitCode).toBe(0)
  })
})

/** Flips one bit in the last byte of the newest event that the home holds: a byte of its signature. */
async function damageOneEvent(home: string): Promise<void> {
  const store = await openFileStore(join(home, 'store'))
  for await (const [key, value] of store.range({ gt: 'event/', lt: 'event0', limit: 1, reverse: true })) {
    const damaged = value.slice()
    damaged[damaged.length - 1]! ^= 1
    await store.batch([{ type: 'put', key, value: damaged }])
  }
  await store.close()
}
