// Commands that change the account, killed when the server has stored what they sent and before they were told: what is
// said and done when they are run again.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createTestDatabase, type TestDatabase } from '../../backend/tests/support/database.ts'
import { type LogCounter, openLogCounter } from '../../backend/tests/support/log-counter.ts'
import { startServer, type TestServer } from './support/server.ts'
import { type StallingProxy, startStallingProxy } from './support/stalling-proxy.ts'
import { makeTwoDevices, type TwoDevices } from './support/user.ts'
import { cleanUp, type Ended, jsonLines, lastJson, makeFolder, runValise, startValise } from './support/valise.ts'

let database: TestDatabase
let counter: LogCounter
let server: TestServer
let proxy: StallingProxy

beforeAll(async () => {
  database = await createTestDatabase()
  counter = await openLogCounter(database.url)
  server = await startServer(makeFolder(), { environment: { DATABASE_URL: database.url } })
  proxy = await startStallingProxy(server.url)
})
afterAll(async () => {
  await proxy?.close()
  await cleanUp()
  await counter?.close()
  await database?.drop()
})

/** Runs the command until the server has stored so many entries more, and kills it before it hears of that. */
async function killAfter(count: number, args: readonly string[], home: string): Promise<Ended> {
  const until = (await counter.entries()) + count
  const command = startValise([...args, '--yes', '--json'], { home, input: '' })
  await proxy.stallWhen(async () => (await counter.entries()) >= until)
  command.signal('SIGKILL')
  const ended = await command.ended()
  expect(ended.exitCode).toBeNull()
  return ended
}
const run = (args: readonly string[], home: string): Promise<Ended> => runValise([...args, '--yes', '--json'], { home })
const phrasesIn = ({ stdout }: Ended): unknown[] =>
  jsonLines(stdout).flatMap(({ type, recovery_phrase: phrase }) => (type === 'recovery_phrase' ? [phrase] : []))
const verdictOf = async (phrase: unknown, home: string): Promise<unknown> => {
  const tested = await runValise(['recovery', 'test', '--json'], { home, input: `${phrase}\n` })
  return tested.exitCode === 0 ? 'valid' : JSON.parse(tested.stderr).error
}

describe('recover', () => {
  it.each([
    [1, 'this device'],
    [2, 'the revocation'],
    [3, 'the new phrase'],
  ])('REC-2: killed after %i entries, of which the last was %s, it goes on to the same end', async (count) => {
    const folder = makeFolder()
    const [desk, home, file] = ['desk', 'new', 'phrase'].map((name) => join(folder, name)) as [string, string, string]
    const made = await runValise(['init', '--server', proxy.url, '--name', 'desk', '--json'], { home: desk })
    const { recovery_phrase: phrase } = lastJson(made.stdout)
    writeFileSync(file, `${phrase}\n`, { mode: 0o600 })
    const before = await counter.entries()
    const args = ['recover', '--server', proxy.url, '--name', 'new desk', '--phrase-file', file]
    const killed = await killAfter(count, args, home)

    const again = await run(args, home)
    expect(again).toMatchObject({ exitCode: 0 })
    expect(lastJson(again.stdout)).toMatchObject({ type: 'recovered', role: 'manager' })
    expect(await counter.entries()).toBe(before + 3)
    const shown = [...phrasesIn(killed), ...phrasesIn(again)]
    expect(shown).toHaveLength(1)
    expect(await verdictOf(shown[0], home)).toBe('valid')
    expect(await verdictOf(phrase, home)).toBe('phrase_replaced')
    const listed = jsonLines((await runValise(['devices', '--json'], { home })).stdout)
    const statuses = listed.flatMap(({ role, status }) => (role === 'recovery' ? [] : [status]))
    expect(statuses).toEqual(['revoked', 'active'])
    expect(lastJson((await runValise(['status', '--json'], { home })).stdout)).toMatchObject({ epoch: 3 })
    expect((await run(args, home)).exitCode).toBe(2)
  })
})

describe('a change of devices or keys', () => {
  let devices: TwoDevices
  beforeAll(async () => {
    devices = await makeTwoDevices({ ...server, url: proxy.url }, makeFolder())
  })
  const epochOf = async (home: string): Promise<number> =>
    Number(lastJson((await runValise(['status', '--json'], { home })).stdout)['epoch'])
  const sends = async (home: string): Promise<void> => {
    expect(await runValise(['send', 'notes'], { home, input: 'still here\n' })).toMatchObject({
      exitCode: 0,
      stderr: '',
    })
  }

  it('DEV-11: role, killed when it was stored, is as it was asked for', async () => {
    await killAfter(1, ['role', 'phone', 'manager'], devices.laptop)
    const before = await counter.entries()
    const again = await run(['role', 'phone', 'manager'], devices.laptop)
    expect(lastJson(again.stdout)).toMatchObject({ type: 'role', role: 'manager', was_changed: false })
    expect(await counter.entries()).toBe(before)
  })

  it('DEV-11: rotate, killed when it was stored, has begun one epoch, and the device has its key', async () => {
    const epoch = await epochOf(devices.laptop)
    await killAfter(1, ['rotate'], devices.laptop)
    const before = await counter.entries()
    await sends(devices.laptop)
    expect(await epochOf(devices.laptop)).toBe(epoch + 1)
    expect(await counter.entries()).toBe(before)
    const read = await runValise(['watch', 'notes', '--count', '1'], { home: devices.phone })
    expect(read.stdout.toString()).toBe('still here\n')
  })

  it('REC-1: recovery new, killed when it was stored, leaves the phrase good that it has shown', async () => {
    const epoch = await epochOf(devices.laptop)
    const file = join(makeFolder(), 'phrase')
    writeFileSync(file, `${devices.phrase}\n`, { mode: 0o600 })
    const [shown] = phrasesIn(await killAfter(1, ['recovery', 'new', '--phrase-file', file], devices.laptop))
    await sends(devices.laptop)
    expect(await verdictOf(shown, devices.laptop)).toBe('valid')
    expect(await epochOf(devices.laptop)).toBe(epoch + 1)
  })

  it('DEV-11: revoke, killed when it was stored, has revoked once, and says so when it is run again', async () => {
    const epoch = await epochOf(devices.laptop)
    const startedAtMs = Date.now()
    await killAfter(1, ['revoke', 'phone', '--reason', 'lost'], devices.laptop)
    const before = await counter.entries()
    const again = await run(['revoke', 'phone'], devices.laptop)
    const { error, message } = JSON.parse(again.stderr)
    expect([again.exitCode, error]).toEqual([1, 'already_revoked'])
    const signedAt = /which this device signed at (\S+) by its clock/.exec(message)?.[1]
    expect(Date.parse(signedAt ?? '')).toBeGreaterThanOrEqual(startedAtMs)
    expect(await counter.entries()).toBe(before)
    await sends(devices.laptop)
    expect(await epochOf(devices.laptop)).toBe(epoch + 1)
  })
})
