// send and watch: bytes in, the same bytes out; what is read is durable; what is printed is remembered.
import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { startServer, type TestServer } from './support/server.ts'
import { makeTwoDevices, type TwoDevices } from './support/user.ts'
import { cleanUp, jsonLines, makeFolder, runValise, startValise } from './support/valise.ts'

let folder: string
let server: TestServer
let homes: TwoDevices
let streams = 0
let stream: string

beforeAll(async () => {
  folder = makeFolder()
  server = await startServer(folder)
  homes = await makeTwoDevices(server, folder)
})
beforeEach(() => {
  streams++
  stream = `stream ${streams}`
})
afterAll(cleanUp)

describe('send', () => {
  it('CLI-1: binary input with empty lines, long lines and no last newline comes out the same', async () => {
    const input = Buffer.concat([
      randomBytes(20_000),
      Buffer.from('\n\n\r\n'),
      Buffer.alloc(600_000, 7),
      randomBytes(99),
    ])
    const sent = await runValise(['send', stream], { home: homes.laptop, input })
    expect(sent).toMatchObject({ exitCode: 0, stderr: '' })
    const receipts = sent.stdout.toString().trimEnd().split('\n').length
    const watched = await runValise(['watch', stream, '--count', String(receipts)], { home: homes.phone })
    expect(watched.stdout.equals(input)).toBe(true)
  })

  it('CLI-1: a file is one event', async () => {
    const file = join(folder, 'binary')
    writeFileSync(file, randomBytes(200_000))
    const sent = await runValise(['send', stream, '--file', file, '--json'], { home: homes.laptop })
    expect(jsonLines(sent.stdout)).toHaveLength(1)
    const watched = await runValise(['watch', stream, '--count', '1'], { home: homes.phone })
    expect(watched.stdout.equals(readFileSync(file))).toBe(true)
  })

  it('CLI-5: receipts for machines, with gapless sequences', async () => {
    const sent = await runValise(['send', stream, '--json'], { home: homes.laptop, input: 'a\nb\nc\n' })
    const receipts = jsonLines(sent.stdout)
    expect(receipts.map((receipt) => receipt['stream_seq'])).toEqual([1, 2, 3])
    for (const receipt of receipts) {
      expect(receipt).toEqual({
        stream,
        event_id: expect.stringMatching(/^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$/),
        device_seq: expect.any(Number),
        stream_seq: expect.any(Number),
        user_seq: expect.any(Number),
        stored_at: expect.stringMatching(/Z$/),
        duplicate: false,
      })
    }
  })

  it('CLI-3: without a server it says so once, keeps trying, and Ctrl-C keeps what was read for the next time', async () => {
    await server.stop()
    const sending = startValise(['send', stream], { home: homes.laptop })
    sending.stdin.end('one\ntwo\n')
    await sending.until('to keep the input', ({ stderr }) => stderr.includes('The input has ended and is kept'))
    sending.interrupt()
    const ended = await sending.ended()
    expect(ended.exitCode).toBe(130)
    expect(ended.stderr.match(/server is away/g)).toHaveLength(1)
    expect(ended.stderr).toMatch(/Interrupted. \d+ events without a receipt are kept/)
    expect(ended.stdout.toString()).toBe('')

    await server.startAgain()
    const next = await runValise(['send', stream, '--json'], { home: homes.laptop, input: 'three\n' })
    expect(next).toMatchObject({ exitCode: 0, stderr: '' })
    expect(jsonLines(next.stdout)).toHaveLength(3)
    const watched = await runValise(['watch', stream, '--count', '3'], { home: homes.phone })
    expect(watched.stdout.toString()).toBe('one\ntwo\nthree\n')
  })

  it('CLI-3: a reader of the receipts that leaves does not stop the sending', async () => {
    const input = Array.from({ length: 300 }, (_, n) => `${n}\n`).join('')
    const sending = startValise(['send', stream], { home: homes.laptop })
    sending.closeStdout()
    sending.stdin.end(input)
    expect(await sending.ended()).toMatchObject({ exitCode: 0, stderr: '' })
    const watched = await runValise(['watch', stream, '--count', '300'], { home: homes.phone })
    expect(watched.stdout.toString()).toBe(input)
  })
})

describe('watch', () => {
  it('CLI-2: resumes where it stopped, each stream for itself, and begins anew when told', async () => {
    const other = `${stream} other`
    await runValise(['send', stream], { home: homes.laptop, input: 'a\nb\nc\n' })
    await runValise(['send', other], { home: homes.laptop, input: 'x\n' })
    const watch = async (...args: string[]): Promise<string> => {
      const { exitCode, stdout, stderr } = await runValise(['watch', ...args], { home: homes.phone })
      expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: '' })
      return stdout.toString()
    }
    expect(await watch(stream, '--count', '2')).toBe('a\nb\n')
    expect(await watch(other, '--count', '1')).toBe('x\n')
    expect(await watch(stream, '--from', 'start', '--count', '1')).toBe('a\n')
    expect(await watch(stream, '--from', 'cursor', '--count', '1')).toBe('c\n')
    expect(await watch(stream, '--from', 'start', '--count', '3')).toBe('a\nb\nc\n')
  })

  it('CLI-2: a reader that leaves ends it quietly, and what it did not take comes the next time', async () => {
    const watching = startValise(['watch', stream], { home: homes.phone })
    const sending = startValise(['send', stream], { home: homes.laptop })
    sending.stdin.write('one\n')
    await watching.until('one', ({ stdout }) => stdout.includes('one'))
    watching.closeStdout()
    sending.stdin.end('two\nthree\n')
    expect(await watching.ended()).toMatchObject({ exitCode: 0, stderr: '' })
    await sending.ended()
    const next = await runValise(['watch', stream, '--count', '2'], { home: homes.phone })
    expect(next.stdout.toString()).toBe('two\nthree\n')
  })

  it('CLI-2: Ctrl-C ends a watch whose reader has stopped reading', async () => {
    const input = Array.from({ length: 20 }, () => `${'x'.repeat(99_999)}\n`).join('')
    await runValise(['send', stream], { home: homes.laptop, input })
    const watching = startValise(['watch', stream], { home: homes.phone })
    await watching.until('a beginning', ({ stdout }) => stdout.length > 0)
    watching.pauseStdout()
    watching.interrupt()
    expect(await watching.ended()).toMatchObject({ exitCode: 0, stderr: '' })
  })

  it('CLI-5: events for machines: text where it is text, base64 where it is not', async () => {
    await runValise(['send', stream], { home: homes.laptop, input: Buffer.from([0x68, 0x69, 0x0a, 0xff, 0xfe]) })
    const watched = await runValise(['watch', stream, '--count', '2', '--json'], { home: homes.phone })
    const common = {
      stream,
      user_seq: expect.any(Number),
      device_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      event_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      stored_at: expect.stringMatching(/Z$/),
      at: expect.stringMatching(/Z$/),
    }
    expect(jsonLines(watched.stdout)).toEqual([
      { ...common, stream_seq: 1, type: 'line', text: 'hi' },
      { ...common, stream_seq: 2, type: 'file', base64: '//4=' },
    ])
  })
})
