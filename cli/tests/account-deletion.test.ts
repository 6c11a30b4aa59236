// The end of an account as its user sees it: asked twice, gone on the server and here, and told in plain words elsewhere.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { DEFAULT_OUTBOX_LIMITS } from '../../client/src/publish/outbox.ts'
import { within } from './support/deadline.ts'
import { runInProcess } from './support/in-process.ts'
import { startServer, type TestServer } from './support/server.ts'
import { linkDevice, makeTwoDevices } from './support/user.ts'
import { cleanUp, lastJson, makeFolder, runValise, startValise } from './support/valise.ts'

const OUTBOX_MIB = DEFAULT_OUTBOX_LIMITS.maxBytes / (1 << 20)

describe('P6: valise account delete', () => {
  let server: TestServer
  let laptop: string
  let phone: string
  let tablet: string
  let shortId: string
  let phrase: string
  beforeAll(async () => {
    const folder = makeFolder()
    server = await startServer(folder)
    ;({ laptop, phone, phrase } = await makeTwoDevices(server, folder))
    tablet = await linkDevice(server, laptop, join(folder, 'tablet'))
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

  it('DEV-14: is asked for without the phrase, is shown by the other devices, and cancelled', async () => {
    const args = ['account', 'delete', '--yes', '--confirm', shortId, '--without-phrase', '--json']
    const asked = await runValise(args, { home: laptop })
    expect(asked.exitCode).toBe(0)
    expect(lastJson(asked.stdout)).toEqual({ type: 'deletion_pending', user: shortId })
    const sending = await runValise(['send', 'notes', '--json'], { home: phone, input: 'told\n' })
    expect(sending.exitCode).toBe(0)
    expect(sending.stderr).toContain('asked for the deletion of the account')
    const shown = lastJson((await runValise(['status', '--json'], { home: phone })).stdout)
    expect(shown).toMatchObject({ pending: [{ pending: 'close', this_device: false }] })
    const kept = await runValise(['account', 'keep', '--json'], { home: laptop })
    expect(lastJson(kept.stdout)).toEqual({ type: 'account_kept', was_pending: true })
    const early = await runValise(['recovery', 'settle', '--json'], { home: laptop })
    expect(JSON.parse(early.stderr.trim())).toMatchObject({ error: 'nothing_pending' })
    const renewing = await runValise(['recovery', 'new', '--without-old-phrase', '--yes', '--json'], { home: laptop })
    expect(lastJson(renewing.stdout)).toEqual({ type: 'recovery_pending' })
    const settling = await runValise(['recovery', 'settle', '--json'], { home: laptop })
    expect(JSON.parse(settling.stderr.trim())).toMatchObject({ error: 'settle_too_early' })
    const cancelled = await runValise(['recovery', 'cancel', '--json'], { home: laptop })
    expect(lastJson(cancelled.stdout)).toEqual({ type: 'recovery_cancelled', was_pending: true })
  })

  it('P6: is asked twice, and only yes and the short id delete', async () => {
    const ask = (person: { types: string; interruptsAt?: string }) =>
      runInProcess(['account', 'delete', '--home', laptop], {}, person)
    const declined = await ask({ types: `n\n${shortId}\n` })
    expect(declined).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('Nothing was deleted') })
    expect(declined.stderr).not.toContain('short id')
    expect(await ask({ types: 'y\n0123456789\n' })).toMatchObject({
      exitCode: 2,
      stderr: expect.stringContaining('not this account'),
    })
    expect(await ask({ types: `y\n${shortId.slice(0, 9)}\n` })).toMatchObject({ exitCode: 2 })
    expect(await ask({ types: 'y\n\n' })).toMatchObject({
      exitCode: 1,
      stderr: expect.stringContaining('Nothing was deleted'),
    })
    for (const interruptsAt of ['Delete the account?', 'Type its short id']) {
      const typed = interruptsAt.startsWith('Type') ? 'y\n' : ''
      const ended = await ask({ types: typed, interruptsAt })
      expect(ended).toMatchObject({ exitCode: 130, stderr: expect.stringContaining('\nNothing was deleted') })
    }
    expect((await runValise(['status'], { home: laptop })).exitCode).toBe(0)
    // `--yes` answers the one question that it can.
    const half = await runInProcess(['account', 'delete', '--yes', '--home', laptop], {}, { types: '\n' })
    expect(half).toMatchObject({ exitCode: 1, stderr: expect.stringContaining('Type its short id') })
  })

  it('CLI-3, P5: Ctrl-C ends a send whose outbox is full, and says what it could not keep', async () => {
    await server.stop()
    const sending = startValise(['send', 'notes', '--json'], { home: tablet })
    const feed = async (): Promise<void> => {
      // What is read beyond it waits for room; less than one MiB stands in buffers on the way.
      for (let i = 0; i < OUTBOX_MIB + 1; i++) {
        await new Promise((resolve) => sending.stdin.write(Buffer.alloc(1 << 20, 'x'), resolve))
      }
    }
    await within(50_000, 'a full outbox', feed())
    sending.interrupt()
    const { exitCode, stderr } = await sending.ended()
    expect(exitCode).toBe(130)
    const notice = JSON.parse(stderr.trimEnd().split('\n').at(-1)!)
    const { outbox_events: kept } = lastJson((await runValise(['status', '--json'], { home: tablet })).stdout)
    expect(notice).toMatchObject({ notice: 'interrupted', outbox_events: kept, given_up: expect.any(Number) })
    expect(notice.given_up).toBeGreaterThan(0)
    expect(notice.message).toContain(`The last ${notice.given_up} events that were read are NOT kept`)
    await server.startAgain()
  })

  it('P6, CLI-5, CLI-7: the laptop keeps nothing, the phone is told and keeps what it holds, and nobody comes back', async () => {
    expect((await runValise(['send', 'notes'], { home: laptop, input: 'one\ntwo\n' })).exitCode).toBe(0)
    const watching = startValise(['watch', 'notes'], { home: phone })
    await watching.until('what was sent', ({ stdout }) => stdout.toString() === 'one\ntwo\n')

    const foreign = `${'abandon '.repeat(11)}about\n`
    const args = ['account', 'delete', '--yes', '--confirm', shortId, '--json']
    const guessed = await runValise(args, { home: laptop, input: foreign })
    expect(JSON.parse(guessed.stderr.trim().split('\n').at(-1)!)).toMatchObject({ error: 'bad_phrase' })
    const deleted = await runValise(args, { home: laptop, input: `${phrase}\n` })
    expect(deleted.exitCode).toBe(0)
    expect(deleted.stderr).toContain('"other_devices":2')
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
    // Also where the outbox has no room for what is read.
    const full = await runValise(['send', 'notes'], { home: tablet, input: 'x'.repeat(1 << 20) })
    expect(full.exitCode).toBe(3)
    expect(full.stderr).toContain('This account was deleted')
    // The home that was erased can begin anew.
    expect((await runValise(['init', '--server', server.url], { home: laptop })).exitCode).toBe(0)
  })

  it('P6: a device that was made a manager while it was away may delete, and who comes second finds it done', async () => {
    const homes = await makeTwoDevices(server, makeFolder())
    expect((await runValise(['role', 'phone', 'manager', '--yes'], { home: homes.laptop })).exitCode).toBe(0)
    const status = await runValise(['status', '--json'], { home: homes.phone })
    const { user_id: userId, role } = lastJson(status.stdout)
    expect(role).toBe('member')
    // Who is about to let a further device in is told, too.
    const pairing = startValise(['pair'], { home: homes.laptop })
    await pairing.until('the code', ({ stdout }) => stdout.includes('Waiting for the other device'))
    const args = ['account', 'delete', '--yes', '--confirm', String(userId).slice(0, 10)]
    const input = `${homes.phrase}\n`
    expect(await runValise(args, { home: homes.phone, input })).toMatchObject({ exitCode: 0 })
    const told = await pairing.ended()
    expect(told).toMatchObject({ exitCode: 3, stderr: expect.stringContaining('This account was deleted') })
    expect(await runValise(args, { home: homes.laptop })).toMatchObject({ exitCode: 0 })
    for (const home of Object.values(homes)) expect(existsSync(join(home, 'storage.key'))).toBe(false)
  })
})
