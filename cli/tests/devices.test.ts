// init, link, approve, devices, status: how devices come together, and what they say about themselves.
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startServer, type TestServer } from './support/server.ts'
import { initDevice, makeTwoDevices } from './support/user.ts'
import { cleanUp, jsonLines, lastJson, makeFolder, runValise, startValise } from './support/valise.ts'

let folder: string
let server: TestServer

beforeAll(async () => {
  folder = makeFolder()
  server = await startServer(folder)
})
afterAll(cleanUp)

describe('the first device', () => {
  it('CLI-6: init shows the recovery phrase once, with a warning, and keeps its home to itself', async () => {
    const home = join(folder, 'first')
    const { stdout, exitCode } = await runValise(['init', '--server', server.url, '--name', 'desk'], { home })
    expect(exitCode).toBe(0)
    expect(stdout.toString()).toMatch(/^ {2}([a-z]+ ){11}[a-z]+$/m)
    expect(stdout.toString()).toContain('shown this once')
    expect(statSync(home).mode & 0o777).toBe(0o700)
    const phrase = /^ {2}(([a-z]+ ){11}[a-z]+)$/m.exec(stdout.toString())![1]!
    for (const command of ['status', 'devices', 'verify']) {
      expect((await runValise([command], { home })).stdout.toString()).not.toContain(phrase)
    }
  })

  it('CLI-5: init for machines', async () => {
    const home = join(folder, 'machine')
    const { stdout } = await runValise(['init', '--server', server.url, '--name', 'desk', '--json'], { home })
    expect(jsonLines(stdout)).toEqual([
      expect.objectContaining({
        type: 'initialised',
        name: 'desk',
        role: 'manager',
        server: server.url,
        server_fingerprint: server.fingerprint,
        user_id: expect.stringMatching(/^[0-9a-f]{64}$/),
        recovery_phrase: expect.stringMatching(/^([a-z]+ ){11}[a-z]+$/),
      }),
    ])
  })
})

describe('a second device', () => {
  it('DEV-1: the fingerprint shown at the approval is the one of the device that asked', async () => {
    const laptop = join(folder, 'laptop')
    const phone = join(folder, 'phone')
    await initDevice(server, laptop)
    const linking = startValise(['link', '--server', server.url, '--name', 'phone'], { home: phone })
    await linking.until('to wait', ({ stdout }) => stdout.includes('Waiting'))
    const printed = linking.stdout.toString()
    expect(printed).toContain('npx valise approve REQUEST')
    const request = printed.split('\n').find((line) => /^\S{40,}$/.test(line))
    const fingerprint = /fingerprint: {2}(.*)$/m.exec(printed)?.[1]
    expect(fingerprint).toMatch(/^([0-9a-f]{4} ){7}[0-9a-f]{4}$/i)

    const refused = await runValise(['approve', request!], { home: laptop })
    expect(refused).toMatchObject({ exitCode: 2, stderr: expect.stringContaining('--yes') })
    const approved = await runValise(['approve', request!, '--yes'], { home: laptop })
    expect(approved).toMatchObject({ exitCode: 0, stderr: '' })
    const shown = approved.stdout.toString()
    expect(shown).toContain(fingerprint)
    expect(shown).toContain('read everything')
    expect((await linking.ended()).exitCode).toBe(0)
  })

  it('CLI-6: link that is interrupted ends at once, and can be begun again', async () => {
    const home = join(folder, 'hesitant')
    const linking = startValise(['link', '--server', server.url], { home })
    await linking.until('to wait', ({ stdout }) => stdout.includes('Waiting'))
    linking.interrupt()
    expect((await linking.ended()).exitCode).toBe(130)
    const again = startValise(['link', '--server', server.url], { home })
    await again.until('to wait again', ({ stdout }) => stdout.includes('Waiting'))
    again.interrupt()
    await again.ended()
  })

  it('CLI-5: both devices are listed by both, with the name each has received', async () => {
    const { laptop, phone } = await makeTwoDevices(server, makeFolder())
    await runValise(['send', 'notes'], { home: laptop, input: 'hello\n' })
    await runValise(['watch', 'notes', '--count', '1'], { home: phone })
    const listed = jsonLines((await runValise(['devices', '--json'], { home: phone })).stdout)
    expect(listed.map(({ role, status, this_device }) => ({ role, status, this_device }))).toEqual(
      expect.arrayContaining([
        { role: 'manager', status: 'active', this_device: false },
        { role: 'recovery', status: 'active', this_device: false },
        { role: 'member', status: 'active', this_device: true },
      ]),
    )
    expect(listed.map(({ name }) => name)).toEqual(expect.arrayContaining(['laptop', 'phone']))
    const kind = `${process.platform} ${process.arch}`
    const devices = listed.filter(({ role }) => role !== 'recovery')
    expect(devices.map(({ platform }) => platform)).toEqual([kind, kind])
    // Presence is the server's word on the others: none on the device that asks, and none on the phrase.
    const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
    expect(
      listed.map(({ role, online, last_seen_at, added_at }) => ({ role, online, last_seen_at, added_at })),
    ).toEqual(
      expect.arrayContaining([
        { role: 'manager', online: false, last_seen_at: time, added_at: time },
        { role: 'recovery', online: false, last_seen_at: null, added_at: time },
        { role: 'member', online: null, last_seen_at: null, added_at: time },
      ]),
    )
    const watching = startValise(['watch', 'notes'], { home: laptop })
    await runValise(['send', 'notes'], { home: phone, input: 'are you there\n' })
    await watching.until('the event', ({ stdout }) => stdout.includes('are you there'))
    const now = jsonLines((await runValise(['devices', '--json'], { home: phone })).stdout)
    expect(now.find(({ role }) => role === 'manager')).toMatchObject({ online: true })
    watching.interrupt()
    await watching.ended()
  })
})

describe('status', () => {
  it('CLI-6: says what the device holds, and whether the server answers', async () => {
    const own = makeFolder()
    const its = await startServer(own)
    const home = join(own, 'laptop')
    await initDevice(its, home)
    await runValise(['send', 'notes'], { home, input: 'one\ntwo\n' })
    const online = await runValise(['status', '--json'], { home })
    expect(lastJson(online.stdout)).toMatchObject({ server_answer: 'answers', outbox_events: 0, epoch: 1 })
    await its.stop()
    const offline = await runValise(['status'], { home })
    expect(offline.exitCode).toBe(0)
    expect(offline.stdout.toString()).toContain('does not answer')
    expect(offline.stdout.toString()).toMatch(/^stream +notes {2}2 events$/m)
  })
})
