// What a server refuses for good is kept until its user retries or discards it, whatever ends the processes meanwhile.
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startServer, type TestServer } from './support/server.ts'
import { makeTwoDevices, type TwoDevices } from './support/user.ts'
import { cleanUp, jsonLines, lastJson, makeFolder, runValise, startValise } from './support/valise.ts'

let folder: string
let server: TestServer
let homes: TwoDevices
/** The devices' names take one of them. */
const environment: Record<string, string> = { VALISE_MAX_STREAMS: '2' }

beforeAll(async () => {
  folder = makeFolder()
  server = await startServer(folder, { environment })
  homes = await makeTwoDevices(server, folder)
  expect((await runValise(['send', 'notes'], { home: homes.laptop, input: 'first\n' })).exitCode).toBe(0)
})
afterAll(cleanUp)

const refused = async (...args: string[]) => {
  const ended = await runValise(['refused', ...args, '--json'], { home: homes.laptop })
  return { ...ended, lines: jsonLines(ended.stdout) }
}

describe('refused content', () => {
  it('REF-2: send says what was refused and where it is kept; list and status show it; nothing else was lost', async () => {
    const sent = await runValise(['send', 'diary'], { home: homes.laptop, input: 'one\ntwo\n' })
    expect(sent.exitCode).toBe(1)
    expect(sent.stderr).toContain('as many streams as allowed')
    expect(sent.stderr).toContain('`valise refused list`')
    const { lines } = await refused('list')
    expect(lines).toMatchObject([
      { stream: 'diary', size: 3, code: 'stream_limit_reached', text: expect.stringContaining('streams'), ttl_s: 0 },
      { stream: 'diary', size: 3, code: 'stream_limit_reached' },
    ])
    const list = await runValise(['refused', 'list'], { home: homes.laptop })
    expect(list.stdout.toString()).toContain(`${lines[0]!['event_id']}  diary  `)
    expect(lastJson((await runValise(['status', '--json'], { home: homes.laptop })).stdout)).toMatchObject({
      refused_events: 2,
      outbox_events: 0,
    })
    const status = await runValise(['status'], { home: homes.laptop })
    expect(status.stdout.toString()).toMatch(/^refused {6}2 events, \d+ bytes/m)
    expect((await runValise(['verify'], { home: homes.laptop })).exitCode).toBe(0)
  })

  it('REF-2: what is retried in vain is kept under its new id; an unknown id changes nothing and exits with 2', async () => {
    const before = (await refused('list')).lines
    const id = String(before[0]!['event_id'])
    const inVain = await runValise(['refused', 'retry', id], { home: homes.laptop })
    expect(inVain.exitCode).toBe(1)
    const after = (await refused('list')).lines
    expect(after).toHaveLength(2)
    expect(after.map((line) => line['event_id'])).not.toContain(id)
    for (const verb of ['retry', 'discard']) {
      const unknown = await refused(verb, id, '--yes')
      expect([unknown.exitCode, unknown.stderr]).toEqual([2, expect.stringContaining('valise refused list')])
    }
    expect((await refused('list')).lines).toEqual(after)
  })

  it('REF-2: discarding asks, and erases for good', async () => {
    const [first] = (await refused('list')).lines
    const id = String(first!['event_id'])
    expect((await refused('discard', id)).exitCode).toBe(2)
    expect((await refused('discard', id, '--yes')).lines).toEqual([{ type: 'discarded', event_id: id }])
    expect((await refused('list')).lines).toHaveLength(1)
  })

  it('REF-2: retried on a server that takes it, it arrives once', async () => {
    environment['VALISE_MAX_STREAMS'] = '10'
    await server.stop()
    await server.startAgain()
    const retried = await refused('retry', 'all')
    expect(retried.exitCode).toBe(0)
    expect(retried.lines).toMatchObject([{ stream: 'diary', stream_seq: 1 }])
    expect((await refused('list')).lines).toEqual([])
    const read = await runValise(['watch', 'diary', '--count', '1'], { home: homes.phone })
    expect(read.stdout.toString()).toMatch(/^(one|two)\n$/)
  })

  it('REF-2: killed at any moment, each line is waiting, refused or kept, and never gone or twice', async () => {
    environment['VALISE_MAX_STREAMS'] = '3'
    await server.stop()
    const written = Array.from({ length: 40 }, (_, index) => `line ${index}`)
    const queueing = startValise(['send', 'journal'], { home: homes.laptop, input: `${written.join('\n')}\n` })
    await queueing.until('the end of the input', ({ stderr }) => stderr.includes('The input has ended and is kept'))
    queueing.signal('SIGKILL')
    await queueing.ended()
    await server.startAgain()
    for (let round = 0; round < 4; round++) {
      const sending = startValise(['send', 'journal', '--json'], { home: homes.laptop })
      // Killed while the repairs run.
      await sending.until('a refusal', ({ stderr }) => stderr.includes('stream_limit_reached'))
      sending.signal('SIGKILL')
      await sending.ended()
    }
    await runValise(['send', 'journal'], { home: homes.laptop, input: '' })
    const { lines } = await refused('list')
    expect(lines.map((line) => line['stream'])).toEqual(written.map(() => 'journal'))
    expect(lastJson((await runValise(['status', '--json'], { home: homes.laptop })).stdout)).toMatchObject({
      outbox_events: 0,
    })
    environment['VALISE_MAX_STREAMS'] = '10'
    await server.stop()
    await server.startAgain()
    expect((await refused('retry', 'all')).exitCode).toBe(0)
    const read = await runValise(['watch', 'journal', '--count', '40'], { home: homes.phone })
    expect(read.stdout.toString().trimEnd().split('\n').sort()).toEqual([...written].sort())
    expect((await runValise(['verify'], { home: homes.phone })).exitCode).toBe(0)
  })
})
