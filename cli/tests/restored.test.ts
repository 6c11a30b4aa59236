// A backup of the embedded database is put back, as operator and users see it at their terminals; and lifetimes.
import { cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startServer, type TestServer } from './support/server.ts'
import { makeTwoDevices, type TwoDevices } from './support/user.ts'
import { cleanUp, jsonLines, lastJson, makeFolder, runValise } from './support/valise.ts'

describe('a backup that was put back', () => {
  let folder: string
  let server: TestServer
  let homes: TwoDevices
  beforeAll(async () => {
    folder = makeFolder()
    server = await startServer(folder, { environment: { VALISE_HEAD_POLL_MS: '200' } })
    homes = await makeTwoDevices(server, folder)
  })
  afterAll(cleanUp)

  const send = (home: string, text: string) => runValise(['send', 'notes', '--json'], { home, input: text })
  const watch = (home: string, count: number) => runValise(['watch', 'notes', '--count', String(count)], { home })
  const status = async (home: string) => lastJson((await runValise(['status', '--json'], { home })).stdout)
  const data = (): string => join(folder, 'server')

  it('RET-5, RET-6, CLI-7: users are told what to do, do it, and nobody misses a line or reads one twice', {
    // Three starts of a server and some fifteen commands, each a process of its own.
    timeout: 240_000,
  }, async () => {
    expect(await send(homes.laptop, 'kept\n')).toMatchObject({ exitCode: 0 })
    expect(String((await watch(homes.phone, 1)).stdout)).toBe('kept\n')
    await server.stop()
    cpSync(data(), join(folder, 'backup'), { recursive: true })
    await server.startAgain()
    expect(await send(homes.laptop, 'one\ntwo\n')).toMatchObject({ exitCode: 0 })
    expect(String((await watch(homes.phone, 1)).stdout)).toBe('one\n')
    await server.stop()
    rmSync(data(), { recursive: true })
    cpSync(join(folder, 'backup'), data(), { recursive: true })
    await server.startAgain()
    const said = await runValise(['admin', 'restored', '--yes', '--json', '--data', data()])
    expect(said).toMatchObject({ exitCode: 0 })
    expect(lastJson(said.stdout)).toEqual({ type: 'restored', log_epoch: expect.stringMatching(/^[0-9a-f]{32}$/) })

    const stopped = await send(homes.laptop, 'three\n')
    expect(stopped.exitCode).toBe(3)
    expect(stopped.stderr).toContain('valise republish')
    expect(await status(homes.laptop)).toMatchObject({ lost_log: expect.stringMatching(/log_epoch|withdrawn|beyond/) })
    const shown = await runValise(['status'], { home: homes.laptop })
    expect(String(shown.stdout)).toMatch(/attention +the server's log went backwards/)

    const again = await runValise(['republish', '--yes', '--json'], { home: homes.laptop })
    expect(again.exitCode).toBe(0)
    // Two lines were lost; the one that was not sent when it stopped waited, if it had been read.
    expect(lastJson(again.stdout)['stored']).toBe(2)
    expect(await status(homes.laptop)).toMatchObject({ lost_log: null, missing_events: 0, outbox_events: 0 })
    expect((await runValise(['republish', '--yes'], { home: homes.phone })).exitCode).toBe(0)
    expect(await send(homes.laptop, 'four\n')).toMatchObject({ exitCode: 0 })
    const lines = [...jsonLines(again.stdout).filter((line) => line['type'] === 'republished')]
    const isThreeKept = Number(lines[0]!['waited']) > 0
    const seen = String((await watch(homes.phone, isThreeKept ? 3 : 2)).stdout)
    expect(seen).toBe(isThreeKept ? 'two\nthree\nfour\n' : 'two\nfour\n')
    for (const home of [homes.laptop, homes.phone]) {
      expect((await runValise(['verify'], { home })).exitCode).toBe(0)
    }
  })

  it('RET-1, CLI-1: what was sent with a lifetime is not there for who comes after it', async () => {
    expect((await runValise(['send', 'brief', '--ttl', '1s'], { home: homes.laptop, input: 'gone\n' })).exitCode).toBe(
      0,
    )
    const sentAtMs = Date.now()
    await expect.poll(() => Date.now() - sentAtMs, { timeout: 10_000 }).toBeGreaterThan(1100)
    expect((await runValise(['send', 'brief'], { home: homes.laptop, input: 'there\n' })).exitCode).toBe(0)
    const seen = await runValise(['watch', 'brief', '--count', '1'], { home: homes.phone })
    expect(String(seen.stdout)).toBe('there\n')
  })
})
