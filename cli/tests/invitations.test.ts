// Registration by invitation as operator and newcomer see it: made beside the running server, used once, refused in
// plain words.
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startServer, type TestServer } from './support/server.ts'
import { cleanUp, jsonLines, lastJson, makeFolder, runValise } from './support/valise.ts'

describe('DEV-4: a server that takes new users by invitation', () => {
  let folder: string
  let server: TestServer
  beforeAll(async () => {
    folder = makeFolder()
    server = await startServer(folder, { environment: { VALISE_REGISTRATION: 'invite' } })
  })
  afterAll(cleanUp)

  const data = (): string[] => ['--data', join(folder, 'server')]
  const init = (home: string, ...args: string[]) =>
    runValise(['init', '--server', server.url, '--name', 'laptop', '--json', ...args], { home: join(folder, home) })
  const errorOf = ({ stderr }: { stderr: string }) => JSON.parse(stderr.trim().split('\n').at(-1)!).error

  it('DEV-4, CLI-5: invitations are made beside the running server, and each lets one user in, once', async () => {
    const made = await runValise(['admin', 'invite', '--count', '2', '--expires', '12h', '--json', ...data()])
    expect(made.exitCode).toBe(0)
    const [first, second] = jsonLines(made.stdout)
    expect(first).toEqual({ invitation: expect.stringMatching(/^[0-9a-f-]{39}$/), expires_at: expect.any(String) })
    const code = String(first!['invitation'])

    const uninvited = await init('uninvited')
    expect(uninvited.exitCode).toBe(2)
    expect(errorOf(uninvited)).toBe('invitation_required')
    // A server whose fingerprint is given is not asked for its mode before.
    const pinned = await init('uninvited', '--fingerprint', server.fingerprint)
    expect(errorOf(pinned)).toBe('invitation_required')
    const misspelt = await init('uninvited', '--invite', code.slice(1))
    expect([misspelt.exitCode, errorOf(misspelt)]).toEqual([2, 'bad_invitation'])

    const invited = await init('first', '--invite', code.toUpperCase().replaceAll('-', ' '))
    expect(invited).toMatchObject({ exitCode: 0, stderr: '' })
    expect(lastJson(invited.stdout)).toMatchObject({ type: 'initialised', role: 'manager' })

    const again = await init('again', '--invite', code)
    expect([again.exitCode, errorOf(again)]).toEqual([1, 'invitation_refused'])
    expect(again.stderr).toContain('Ask its operator for another one')
    expect((await init('again', '--invite', String(second!['invitation']))).exitCode).toBe(0)
  })

  it('BUS-7, CLI-5: the node secret is replaced beside the running server, and not twice at once', async () => {
    const made = await runValise(['admin', 'rotate-node-secret', '--json', ...data()])
    expect(made).toMatchObject({ exitCode: 0, stderr: '' })
    expect(lastJson(made.stdout)).toEqual({ type: 'node_secret_rotated', number: 2, old_ends_in_ms: 120_000 })
    const again = await runValise(['admin', 'rotate-node-secret', '--json', ...data()])
    expect([again.exitCode, errorOf(again)]).toEqual([1, 'too_soon'])
    expect(again.stderr).toContain('Nothing was changed; try again in 1')
  })

  it.each([
    [['--count', '0'], 'bad_command_line', '--count'],
    [['--count', '1001'], 'bad_count', 'at most 1000'],
    [['--expires', 'soon'], 'bad_command_line', '30m, 12h, 7d'],
    [['--expires', '366d'], 'bad_expiry', '1m to 365d'],
    [['--database-url', 'http://x'], 'bad_configuration', 'postgres://'],
  ])('CLI-4: admin invite %s', async (args, code, expected) => {
    const refused = await runValise(['admin', 'invite', '--json', ...args])
    expect(refused.exitCode).toBe(2)
    expect(errorOf(refused)).toBe(code)
    expect(refused.stderr).toContain(expected)
  })

  it('CLI-4: admin alone says what there is', async () => {
    const refused = await runValise(['admin'])
    expect(refused.exitCode).toBe(2)
    expect(refused.stderr).toContain('invite')
  })
})
