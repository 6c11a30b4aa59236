// The end of an account as its user sees it: asked twice, gone on the server and here, and told in plain words elsewhere.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startServer, type TestServer } from './support/server.ts'
import { makeTwoDevices } from './support/user.ts'
import { cleanUp, lastJson, makeFolder, runValise, startValise } from './support/valise.ts'

describe('P6: valise account delete', () => {
  let server: TestServer
  let laptop: string
  let phone: string
  let shortId: string
  beforeAll(async () => {
    const folder = makeFolder()
    server = await startServer(folder)
    ;({ laptop, phone } = await makeTwoDevices(server, folder))
    const status = await runValise(['status', '--json'], { home: laptop })
    shortId = String(lastJson(status.stdout)['user_id']).slice(0, 10)
  })
  afterAll(cleanUp)

  it('CLI-4: is refused where nobody can type the id, with another id, and on a device that is no manager', async () => {
    const unasked = await runValise(['account', 'delete', '--yes'], { home: laptop })
    expect(unasked).toMatchObject({ exitCode: 2 })
    expect(unasked.stderr).toContain(`--confirm ${shortId}`)
    const other = await runValise(['account', 'delete', '--yes', '--confirm', '0123456789'], { home: laptop })
    expect(other).toMatchObject({ exitCode: 2 })
    expect(other.stderr).toContain('nothing was deleted')
    const unsure = await runValise(['account', 'delete', '--confirm', shortId], { home: laptop })
    expect(unsure).toMatchObject({ exitCode: 2 })
    const member = await runValise(['account', 'delete', '--yes', '--confirm', shortId], { home: phone })
    expect(member.exitCode).toBe(1)
    expect(member.stderr).toContain('Only a manager')
    expect((await runValise(['status'], { home: laptop })).exitCode).toBe(0)
  })

  it('P6, CLI-5, CLI-7: the laptop keeps nothing, the phone is told and keeps what it holds, and nobody comes back', async () => {
    expect((await runValise(['send', 'notes'], { home: laptop, input: 'one\ntwo\n' })).exitCode).toBe(0)
    const watching = startValise(['watch', 'notes'], { home: phone })
    await watching.until('what was sent', ({ stdout }) => stdout.toString() === 'one\ntwo\n')

    const deleted = await runValise(['account', 'delete', '--yes', '--confirm', shortId, '--json'], { home: laptop })
    expect(deleted.exitCode).toBe(0)
    expect(deleted.stderr).toContain('"other_devices":1')
    expect(lastJson(deleted.stdout)).toMatchObject({ type: 'account_deleted', user: shortId })

    const told = await watching.ended()
    expect(told.exitCode).toBe(3)
    expect(told.stderr).toContain('This account was deleted')
    expect(told.stderr).toContain('What this device holds is kept')

    expect(existsSync(join(laptop, 'storage.key'))).toBe(false)
    const empty = await runValise(['status', '--json'], { home: laptop })
    expect(empty).toMatchObject({ exitCode: 2 })
    expect(empty.stderr).toContain('not_set_up')
    expect((await runValise(['verify'], { home: phone })).exitCode).toBe(0)
    const late = await runValise(['send', 'notes'], { home: phone, input: 'late\n' })
    expect(late.exitCode).toBe(3)
    expect(late.stderr).toContain('This account was deleted')
    // The home that was erased can begin anew.
    expect((await runValise(['init', '--server', server.url], { home: laptop })).exitCode).toBe(0)
  })
})
