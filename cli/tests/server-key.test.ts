// The server's key at the command line: changed while the server runs, followed with a notice, and trusted by hand.
import { existsSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startServer, type TestServer } from './support/server.ts'
import { initDevice } from './support/user.ts'
import { cleanUp, jsonLines, lastJson, makeFolder, runValise } from './support/valise.ts'

let folder: string
let data: string
let home: string
let server: TestServer

beforeAll(async () => {
  folder = makeFolder()
  data = join(folder, 'server')
  home = join(folder, 'laptop')
  server = await startServer(folder)
  await initDevice(server, home)
})
afterAll(cleanUp)

const rotate = async (...more: string[]) => {
  const ended = await runValise(['admin', 'rotate-key', '--data', data, '--json', ...more])
  return { ...ended, said: ended.exitCode === 0 ? lastJson(ended.stdout) : {} }
}
const send = () => runValise(['send', 'notes', '--json'], { home, input: 'hello\n' })
const noticesOf = (stderr: string): Record<string, unknown>[] => jsonLines(Buffer.from(stderr))
const nextFile = () => join(data, 'identity-next.key')

describe('valise admin rotate-key', () => {
  it('KEY-2: changes the key of a server that runs on its embedded database', async () => {
    const { said } = await rotate()
    expect(said).toMatchObject({
      type: 'key_rotated',
      from: server.fingerprint,
      published: true,
      next_file: nextFile(),
    })
    await server.stop()
    await server.startAgain()
    // Before the device has met the new key, it is the next one that the device knows, and no stranger's.
    const before = lastJson((await runValise(['status', '--json'], { home })).stdout)
    expect(before).toMatchObject({ server_fingerprint: server.fingerprint, server_answer: 'next_key' })
    const sent = await send()
    expect(sent.exitCode).toBe(0)
    expect(noticesOf(sent.stderr)).toContainEqual(
      expect.objectContaining({ notice: 'server_key_changed', from: server.fingerprint, to: said['fingerprint'] }),
    )
    // Once.
    expect((await send()).stderr).not.toContain('server_key_changed')
    const status = lastJson((await runValise(['status', '--json'], { home })).stdout)
    expect(status).toMatchObject({
      server_fingerprint: said['fingerprint'],
      server_next_fingerprint: said['next_fingerprint'],
      server_answer: 'answers',
    })
  })

  it('KEY-2: takes the next key from where the operator keeps it, and says what to do without it', async () => {
    const safe = join(folder, 'safe.key')
    renameSync(nextFile(), safe)
    const without = await rotate()
    expect(without.exitCode).toBe(1)
    expect(without.stderr).toContain('--next FILE')
    expect(existsSync(nextFile())).toBe(false)
    const text = (await runValise(['admin', 'rotate-key', '--data', data, '--next', safe])).stdout.toString()
    expect(text).toContain(`Move ${nextFile()} to a safe place`)
    expect(text).toContain(`Remove ${safe}`)
    expect((await send()).exitCode).toBe(0)
  })
})

describe('valise trust', () => {
  it('KEY-3: after the keys were lost a device goes on when its user has compared the new fingerprint', async () => {
    await server.stop()
    rmSync(join(data, 'identity.key'))
    rmSync(nextFile())
    await server.startAgain()
    const stopped = await send()
    expect(stopped.exitCode).toBe(3)
    expect(stopped.stderr).toContain('valise trust FINGERPRINT')
    const wrong = await runValise(['trust', server.fingerprint, '--json'], { home })
    expect(wrong.exitCode).not.toBe(0)
    expect(wrong.stderr).toContain('wrong_server_key')
    expect((await runValise(['trust', 'abc'], { home })).exitCode).toBe(2)
    const { fingerprint } = (await (await fetch(`${server.url.replace('ws', 'http')}/.well-known/valise`)).json()) as {
      fingerprint: string
    }
    const trusted = await runValise(['trust', fingerprint, '--json'], { home })
    expect(lastJson(trusted.stdout)).toMatchObject({ type: 'trusted', server_fingerprint: fingerprint })
    expect((await send()).exitCode).toBe(0)
  })
})
