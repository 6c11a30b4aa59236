// What a person does when a device is lost, renamed or given away, and when all of them are: revoke, rename, role, rotate,
// recovery, recover.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startServer, type TestServer } from './support/server.ts'
import { makeTwoDevices, type TwoDevices } from './support/user.ts'
import { cleanUp, jsonLines, lastJson, makeFolder, runValise, startValise } from './support/valise.ts'

let folder: string
let server: TestServer

beforeAll(async () => {
  folder = makeFolder()
  server = await startServer(folder)
})
afterAll(cleanUp)

const listed = async (home: string) =>
  jsonLines((await runValise(['devices', '--json'], { home })).stdout).filter(({ role }) => role !== 'recovery')

describe('a device that is lost', () => {
  let devices: TwoDevices
  beforeAll(async () => {
    devices = await makeTwoDevices(server, makeFolder())
  })

  it('DEV-4: a new name is known to the other device, and to nobody else', async () => {
    const { laptop, phone } = devices
    expect(await runValise(['rename', 'pocket'], { home: phone })).toMatchObject({ exitCode: 0, stderr: '' })
    expect((await listed(phone)).map(({ name }) => name)).toEqual(['laptop', 'pocket'])
    expect((await listed(laptop)).map(({ name }) => name)).toEqual(['laptop', 'pocket'])
    expect((await runValise(['rename', ''], { home: phone })).exitCode).toBe(2)
  })

  it('CLI-4: what is meant by no device, or may not be done, is said', async () => {
    const { laptop, phone } = devices
    const refusals = await Promise.all([
      runValise(['revoke', 'tablet', '--yes', '--json'], { home: laptop }),
      runValise(['rotate', '--json'], { home: phone }),
    ])
    expect(refusals.map(({ exitCode, stderr }) => [exitCode, JSON.parse(stderr).error])).toEqual([
      [2, 'unknown_device'],
      [1, 'not_a_manager'],
    ])
    const last = await runValise(['revoke', 'laptop', '--yes', '--json'], { home: laptop })
    expect([last.exitCode, JSON.parse(last.stderr).error]).toEqual([1, 'last_manager'])
    const asked = await runValise(['revoke', 'pocket'], { home: laptop })
    expect(asked).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('--yes') })
  })

  it('P6: is cut off while it watches, told so, and its home holds nothing that opens', async () => {
    const { laptop, phone } = devices
    expect((await runValise(['role', 'pocket', 'manager'], { home: laptop })).exitCode).toBe(0)
    const rotated = await runValise(['rotate', '--json'], { home: phone })
    expect(lastJson(rotated.stdout)).toEqual({ type: 'rotated', epoch: 2 })
    await runValise(['send', 'notes'], { home: laptop, input: 'before\n' })
    const watching = startValise(['watch', 'notes'], { home: phone })
    await watching.until('the event', ({ stdout }) => stdout.includes('before'))
    const keyBefore = readFileSync(join(phone, 'storage.key'))

    const revoked = await runValise(['revoke', 'pocket', '--reason', 'lost', '--yes', '--json'], { home: laptop })
    expect(revoked).toMatchObject({ exitCode: 0, stderr: '' })
    expect(lastJson(revoked.stdout)).toMatchObject({ type: 'revoked', name: 'pocket', was_active: true })
    const ended = await watching.ended()
    expect(ended.exitCode).toBe(3)
    expect(ended.stderr).toContain('erased')
    expect(ended.stderr).not.toContain('away')
    for (const command of ['status', 'watch notes', 'send notes', 'verify']) {
      const after = await runValise([...command.split(' '), '--json'], { home: phone })
      expect([after.exitCode, JSON.parse(after.stderr).error]).toEqual([1, 'revoked'])
    }
    expect(readFileSync(join(phone, 'storage.key')).equals(keyBefore)).toBe(false)
    for (const file of readdirSync(join(phone, 'store'))) {
      expect(readFileSync(join(phone, 'store', file)).includes(keyBefore)).toBe(false)
    }
    expect((await listed(laptop)).map(({ name, status }) => [name, status])).toEqual([
      ['laptop', 'active'],
      ['pocket', 'revoked'],
    ])
    const again = await runValise(['revoke', 'pocket', '--yes', '--json'], { home: laptop })
    expect([again.exitCode, JSON.parse(again.stderr).error]).toEqual([1, 'already_revoked'])
    const { device_seq: cut } = (await listed(laptop)).find(({ name }) => name === 'pocket')!
    expect(JSON.parse(again.stderr).message).toMatch(
      new RegExp(
        `was revoked before, by entry \\d+ .*, which this device signed at .* after event ${cut} of its own .* does not change`,
      ),
    )
  })

  it('DEV-9: the home of a revoked device can be linked anew', async () => {
    const { laptop, phone } = devices
    const linking = startValise(['link', '--server', server.url, '--name', 'phone again', '--json'], { home: phone })
    await linking.until('the request', ({ stdout }) => stdout.includes('\n'))
    const { request } = JSON.parse(linking.stdout.toString().split('\n')[0]!)
    expect((await runValise(['approve', request, '--yes'], { home: laptop })).exitCode).toBe(0)
    expect((await linking.ended()).exitCode).toBe(0)
    const read = await runValise(['watch', 'notes', '--count', '1'], { home: phone })
    expect(read.stdout.toString()).toBe('before\n')
  })
})

describe('all devices lost', () => {
  it('REC-2, REC-3, REC-4: the phrase alone gets everything back, and a new one takes its place', async () => {
    const own = makeFolder()
    const home = (name: string): string => join(own, name)
    const made = await runValise(['init', '--server', server.url, '--name', 'desk', '--json'], { home: home('desk') })
    const { recovery_phrase: phrase, user_id: userId } = lastJson(made.stdout)
    await runValise(['send', 'notes'], { home: home('desk'), input: 'one\ntwo\n' })
    const file = join(own, 'phrase')
    writeFileSync(file, `${phrase}\n`, { mode: 0o600 })

    const tested = await runValise(['recovery', 'test', '--json'], { home: home('desk'), input: `${phrase}\n` })
    expect(lastJson(tested.stdout)).toEqual({ type: 'recovery_test', verdict: 'valid' })
    const words = String(phrase).split(' ')
    const wrong = await runValise(['recovery', 'test', '--json'], {
      home: home('desk'),
      input: `${['valise', ...words.slice(1)].join(' ')}\n`,
    })
    expect(wrong.exitCode).toBe(2)
    expect(JSON.parse(wrong.stderr)).toMatchObject({ error: 'bad_phrase', message: expect.stringContaining('Word 1 ') })
    expect(wrong.stderr).not.toContain('valise')
    expect(wrong.stderr).not.toContain(words.slice(1).join(' '))

    const args = ['recover', '--server', server.url, '--name', 'new desk', '--phrase-file', file]
    expect((await runValise(args, { home: home('new') })).exitCode).toBe(2)
    // Ended the hard way once it has shown what the phrase opens, it is begun again.
    const killed = startValise([...args, '--yes', '--json'], { home: home('new') })
    await killed.until('the account', ({ stdout }) => stdout.includes('recoverable'))
    killed.signal('SIGKILL')
    await killed.ended()
    const recovered = await runValise([...args, '--yes', '--json'], { home: home('new') })
    expect(recovered.exitCode).toBe(0)
    expect(lastJson(recovered.stdout)).toMatchObject({ type: 'recovered', user_id: userId, role: 'manager' })
    const renewed = jsonLines(recovered.stdout).find(({ type }) => type === 'recovery_phrase')
    const devicesNow = (await listed(home('new'))).map(({ name, status }) => [name, status])
    expect(devicesNow).toEqual([
      ['desk', 'revoked'],
      ['new desk', 'active'],
    ])
    const read = await runValise(['watch', 'notes', '--count', '2'], { home: home('new') })
    expect(read.stdout.toString()).toBe('one\ntwo\n')
    expect(
      (await runValise(['recover', '--server', server.url, '--yes'], { home: home('new'), input: 'x\n' })).exitCode,
    ).toBe(2)

    const used = await runValise([...args, '--yes', '--json'], { home: home('third') })
    expect(JSON.parse(used.stderr)).toMatchObject({ error: 'phrase_replaced' })
    // Tested on the device, it recovers nothing; nor does that of another account. Both are told apart, and fail.
    for (const [typed, error] of [
      [phrase, 'phrase_replaced'],
      [`${'abandon '.repeat(11)}about`, 'phrase_foreign'],
    ]) {
      const verdict = await runValise(['recovery', 'test', '--json'], { home: home('new'), input: `${typed}\n` })
      expect([verdict.exitCode, JSON.parse(verdict.stderr).error]).toEqual([1, error])
    }
    writeFileSync(file, `${renewed!['recovery_phrase']}\n`, { mode: 0o600 })
    const kept = await runValise([...args, '--yes', '--json', '--keep', 'new desk'], { home: home('third') })
    expect(kept.exitCode).toBe(0)
    expect(jsonLines(kept.stdout).find(({ type }) => type === 'keys_changed')).toEqual({
      type: 'keys_changed',
      revoked: [],
    })
    expect((await runValise(['verify'], { home: home('third') })).exitCode).toBe(0)
  })

  it('REC-1: a new phrase that nobody was there to read takes the place of none', async () => {
    const home = makeFolder()
    const made = await runValise(['init', '--server', server.url, '--name', 'desk', '--json'], { home })
    const { recovery_phrase: phrase } = lastJson(made.stdout)
    for (const flags of [['--json'], []]) {
      const renewing = startValise(['recovery', 'new', '--yes', ...flags], { home, input: `${phrase}\n` })
      renewing.closeStdout()
      const { exitCode, stderr } = await renewing.ended()
      expect([exitCode, stderr]).toEqual([1, expect.stringContaining('The one before stays good.')])
    }
    const tested = await runValise(['recovery', 'test', '--json'], { home, input: `${phrase}\n` })
    expect(lastJson(tested.stdout)).toEqual({ type: 'recovery_test', verdict: 'valid' })
    expect(lastJson((await runValise(['status', '--json'], { home })).stdout)).toMatchObject({ log_seq: 0, epoch: 1 })
  })

  it('REC-3: a phrase of no account here, and a server that is away, are told apart', async () => {
    const own = makeFolder()
    const input = `${'abandon '.repeat(11)}about\n`
    const unknown = await runValise(['recover', '--server', server.url, '--yes', '--json'], {
      home: join(own, 'a'),
      input,
    })
    expect([unknown.exitCode, JSON.parse(unknown.stderr).error]).toEqual([1, 'phrase_unknown'])
    const away = await runValise(['recover', '--server', 'ws://127.0.0.1:9', '--yes', '--json'], {
      home: join(own, 'b'),
      input,
    })
    expect([away.exitCode, JSON.parse(away.stderr).error]).toEqual([1, 'server_unreachable'])
  })
})
