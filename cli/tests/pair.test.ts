// `valise pair`, as real processes against a real server: either side displays, killed and resumed at each step, and what
// both screens say when it fails.

import { existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startServer, type TestServer } from './support/server.ts'
import { initDevice } from './support/user.ts'
import { cleanUp, jsonLines, lastJson, makeFolder, type Running, runValise, startValise } from './support/valise.ts'

let server: TestServer
let folder: string
let laptop: string

beforeAll(async () => {
  folder = makeFolder()
  server = await startServer(folder)
  laptop = join(folder, 'laptop')
  await initDevice(server, laptop)
}, 120_000)
afterAll(cleanUp)

const lineOf = async (running: Running, type: string): Promise<Record<string, string>> => {
  const find = () => jsonLines(running.stdout).find((line) => line['type'] === type)
  await running.until(`a line of ${type}`, () => running.stdout.toString().endsWith('\n') && find() !== undefined)
  return find() as Record<string, string>
}
const pair = (home: string, ...args: string[]): Running => startValise(['pair', ...args, '--json'], { home })
const kill = async (running: Running): Promise<void> => {
  running.signal('SIGKILL')
  await running.ended()
}

describe('pairing', () => {
  it('PAIR-2, PAIR-4: the existing device shows a code, the new one joins, and the digits let it in', async () => {
    const phone = join(folder, 'phone')
    const showing = pair(laptop)
    const { code, url } = await lineOf(showing, 'offer')
    expect(code).toMatch(/^\d{3}(-\d{3}){4}$/)
    expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/p#1\.[\w-]{22}\.[\w-]{43}\.[\w-]{22}\.e$/)
    const joining = pair(phone, code!, '--server', server.url, '--name', 'phone')
    const { digits } = await lineOf(joining, 'check')
    // Nobody sits at its terminal: it says what to do, and keeps the pairing.
    const asked = await showing.ended()
    expect(asked.exitCode).toBe(2)
    expect(jsonLines(asked.stdout)).toContainEqual(expect.objectContaining({ type: 'new_device', name: 'phone' }))
    expect(statSync(join(laptop, 'pairing')).mode & 0o777).toBe(0o600)
    // Saying yes to everything is no answer to the digits.
    expect((await runValise(['pair', '--yes', '--json'], { home: laptop })).exitCode).toBe(2)
    const approved = await runValise(['pair', '--check', digits!, '--json'], { home: laptop })
    expect(approved.exitCode).toBe(0)
    expect(lastJson(approved.stdout)).toMatchObject({ type: 'paired', name: 'phone', log_seq: 1 })
    const joined = await joining.ended()
    expect(joined.exitCode).toBe(0)
    expect(lastJson(joined.stdout)).toMatchObject({ type: 'paired', name: 'phone', role: 'member' })
    for (const home of [laptop, phone]) expect(existsSync(join(home, 'pairing'))).toBe(false)
    expect((await runValise(['verify'], { home: phone })).exitCode).toBe(0)
  }, 180_000)

  it('PAIR-2, PAIR-8: the new device shows, both are killed at every step, and each goes on; the others are told', async () => {
    const tablet = join(folder, 'tablet')
    const display = ['--new', '--server', server.url, '--name', 'tablet']
    let fresh = pair(tablet, ...display)
    const { url } = await lineOf(fresh, 'offer')
    expect(url).toMatch(/\.n$/)
    await kill(fresh)
    let existing = pair(laptop, url!)
    await lineOf(existing, 'step')
    await kill(existing)
    fresh = pair(tablet)
    expect(await lineOf(fresh, 'offer')).toMatchObject({ url, is_resumed: true })
    existing = pair(laptop)
    const { digits } = await lineOf(fresh, 'check')
    await kill(fresh)
    fresh = pair(tablet)
    expect(await lineOf(fresh, 'check')).toMatchObject({ digits })
    // The new device has introduced itself; killed, it is let in while it is away.
    await lineOf(existing, 'new_device')
    await existing.ended()
    await kill(fresh)
    const approved = await runValise(['pair', '--check', digits!, '--json'], { home: laptop })
    expect(approved.exitCode).toBe(0)
    const joined = await pair(tablet).ended()
    expect(joined.exitCode).toBe(0)
    expect(lastJson(joined.stdout)).toMatchObject({ type: 'paired', name: 'tablet' })

    const phone = join(folder, 'phone')
    await runValise(['send', 'notes'], { home: laptop, input: 'hello\n' })
    const told = await runValise(['watch', 'notes', '--from', 'start', '--count', '1', '--json'], { home: phone })
    expect(told.stderr).toContain('"notice":"device_added"')
    const again = await runValise(['watch', 'notes', '--from', 'start', '--count', '1', '--json'], { home: phone })
    expect(again.stderr).not.toContain('device_added')
  }, 240_000)

  it('PAIR-4, PAIR-5: wrong digits let nobody in, destroy the pairing, and both screens say so', async () => {
    const stranger = join(folder, 'stranger')
    const showing = pair(laptop)
    const { code } = await lineOf(showing, 'offer')
    const joining = pair(stranger, code!, '--server', server.url)
    const { digits } = await lineOf(joining, 'check')
    await showing.ended()
    const wrong = String((Number(digits) + 1) % 10_000).padStart(4, '0')
    const refused = await runValise(['pair', '--check', wrong, '--json'], { home: laptop })
    expect(refused.exitCode).toBe(1)
    expect(JSON.parse(refused.stderr.trim().split('\n').at(-1)!)).toMatchObject({ error: 'pairing_failed' })
    const ended = await joining.ended()
    expect(ended.exitCode).toBe(1)
    expect(JSON.parse(ended.stderr.trim().split('\n').at(-1)!)).toMatchObject({ error: 'pairing_failed' })
    for (const home of [laptop, stranger]) expect(existsSync(join(home, 'pairing'))).toBe(false)
  }, 180_000)

  it('PAIR-2, PAIR-12: a wrong code once, and the screen shows a new one; the old one opens nothing any more', async () => {
    const showing = pair(laptop)
    const { code } = await lineOf(showing, 'offer')
    const wrong = code!.slice(0, -3) + String((Number(code!.slice(-3)) + 1) % 1000).padStart(3, '0')
    const guess = await runValise(['pair', wrong, '--server', server.url, '--json'], { home: join(folder, 'guesser') })
    expect(guess.exitCode).toBe(1)
    expect(guess.stderr).toContain('do not share one secret')
    const renewed = await lineOf(showing, 'renewed')
    expect(renewed).toMatchObject({ reason: 'other_failed', left: 2 })
    await showing.until('the new offer', ({ stdout }) => stdout.toString().split('"offer"').length > 2)
    const late = await runValise(['pair', code!, '--server', server.url, '--json'], { home: join(folder, 'late') })
    expect(late.exitCode).toBe(1)
    expect(late.stderr).toContain('pairing_refused')
  }, 180_000)

  it('CLI-4: what cannot be a pairing is said before anything is done', async () => {
    const nowhere = join(folder, 'nowhere')
    for (const args of [
      ['pair'],
      ['pair', 'nonsense', '--server', server.url],
      ['pair', '412-730-958-305-118'],
      ['pair', '--check', '12'],
    ]) {
      expect((await runValise(args, { home: nowhere })).exitCode, args.join(' ')).toBe(2)
    }
    expect((await runValise(['pair', '--new', '--server', server.url], { home: laptop })).exitCode).toBe(2)
  }, 120_000)
})
