// An account with as many devices as its server allows: whoever wants in is told why not, on both screens, and whoever has
// lost them all gets back in by the phrase.

import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startServer, type TestServer } from './support/server.ts'
import { cleanUp, jsonLines, lastJson, makeFolder, type Running, runValise, startValise } from './support/valise.ts'

let folder: string
let server: TestServer
let laptop: string
let phrase: string

beforeAll(async () => {
  folder = makeFolder()
  server = await startServer(folder, { environment: { VALISE_MAX_DEVICES: '1' } })
  laptop = join(folder, 'laptop')
  const made = await runValise(['init', '--server', server.url, '--name', 'laptop', '--json'], { home: laptop })
  phrase = String(lastJson(made.stdout)['recovery_phrase'])
}, 120_000)
afterAll(cleanUp)

const lineOf = async (running: Running, type: string): Promise<Record<string, unknown>> => {
  const find = () => jsonLines(running.stdout).find((line) => line['type'] === type)
  await running.until(`a line of ${type}`, () => running.stdout.toString().endsWith('\n') && find() !== undefined)
  return find()!
}
const failureOf = ({ exitCode, stderr }: { exitCode: number | null; stderr: string }) => {
  const { error, message } = JSON.parse(stderr.trim().split('\n').at(-1)!)
  return { exitCode, error, message }
}
const TOO_MANY = {
  exitCode: 1,
  error: 'too_many_devices',
  message: expect.stringContaining('as many devices as it may have. Revoke one'),
}

describe('an account that is full', () => {
  it('PAIR-5, CLI-5: a pairing says so on the one screen, and ends on the other', async () => {
    const phone = join(folder, 'phone')
    const showing = startValise(['pair', '--json'], { home: laptop })
    const { code } = await lineOf(showing, 'offer')
    const args = ['pair', String(code), '--server', server.url, '--json']
    const joining = startValise(args, { home: phone })
    const { digits } = await lineOf(joining, 'check')
    await showing.ended()
    const approved = await runValise(['pair', '--check', String(digits), '--json'], { home: laptop })
    expect(failureOf(approved)).toEqual(TOO_MANY)
    expect(failureOf(await joining.ended())).toMatchObject({ exitCode: 1, error: 'pairing_failed' })
    for (const home of [laptop, phone]) expect(existsSync(join(home, 'pairing'))).toBe(false)
  })

  it('DEV-3, CLI-5: an approval by hand says so, and the device that asked is told no', async () => {
    const linking = startValise(['link', '--server', server.url, '--json'], { home: join(folder, 'tablet') })
    await linking.until('the request', ({ stdout }) => stdout.includes('\n'))
    const { request } = JSON.parse(linking.stdout.toString().split('\n')[0]!)
    const approved = await runValise(['approve', request, '--yes', '--json'], { home: laptop })
    expect(failureOf(approved)).toEqual(TOO_MANY)
    expect(failureOf(await linking.ended())).toMatchObject({ exitCode: 1, error: 'link_declined' })
  })

  it('REC-2: all of its devices lost, the phrase gets it back', async () => {
    const file = join(folder, 'phrase')
    writeFileSync(file, `${phrase}\n`, { mode: 0o600 })
    const home = join(folder, 'new')
    const args = ['recover', '--server', server.url, '--name', 'new', '--phrase-file', file, '--yes', '--json']
    const recovered = await runValise(args, { home })
    expect(recovered).toMatchObject({ exitCode: 0, stderr: '' })
    const devices = jsonLines((await runValise(['devices', '--json'], { home })).stdout)
    expect(devices.flatMap(({ role, name, status }) => (role === 'manager' ? [[name, status]] : []))).toEqual([
      ['laptop', 'revoked'],
      ['new', 'active'],
    ])
  })
})
