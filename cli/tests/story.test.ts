// What a new user does: a real file is piped in on one device and leaves the other byte for byte the same, while the
// second is offline half of the time, across a restart and a kill -9 of the server.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { startServer } from './support/server.ts'
import { makeTwoDevices } from './support/user.ts'
import { cleanUp, jsonLines, lastJson, makeFolder, type Running, runValise, startValise } from './support/valise.ts'

const file = readFileSync(join(import.meta.dirname, '../../package-lock.json'))
const lines = file.toString().split('\n').length - 1

afterAll(cleanUp)

const countReceipts = (printed: { stdout: Buffer }): number => printed.stdout.toString().split('\n').length - 1

describe('a file on its way from the laptop to the phone', () => {
  it('P3, P4: arrives byte for byte, over an offline reader, a restart and a kill -9 of the server', {
    timeout: 180_000,
  }, async () => {
    expect(lines).toBeGreaterThan(3000)
    const folder = makeFolder()
    const server = await startServer(folder, { isNew: true })
    const { laptop, phone } = await makeTwoDevices(server, folder)
    const quarter = (n: number): Uint8Array =>
      file.subarray(Math.floor((file.length * n) / 4), Math.floor((file.length * (n + 1)) / 4))

    const sending = startValise(['send', 'notes'], { home: laptop })
    const watching = startValise(['watch', 'notes'], { home: phone })
    sending.stdin.write(quarter(0))
    await watching.until('a first part', ({ stdout }) => stdout.length > file.length / 8)
    const first = await interrupt(watching)
    expect(first).toMatchObject({ exitCode: 0, stderr: '' })

    // The phone is offline from here on.
    expect(await server.stop()).toBe(0)
    sending.stdin.write(quarter(1))
    await sending.until('to say that the server is away', ({ stderr }) => stderr.includes('server is away'))
    await server.startAgain()
    const receiptsBefore = countReceipts(sending)
    await sending.until('receipts of the new server', (printed) => countReceipts(printed) > receiptsBefore + 100)
    sending.stdin.write(quarter(2))
    await server.kill()
    sending.stdin.end(quarter(3))
    await server.startAgain()
    const sent = await sending.ended()
    expect(sent.exitCode).toBe(0)
    expect(countReceipts(sent)).toBe(lines)

    const left = lines - countLines(first.stdout)
    const second = await runValise(['watch', 'notes', '--count', String(left)], { home: phone })
    expect(second.exitCode).toBe(0)
    expect(Buffer.concat([first.stdout, second.stdout]).equals(file)).toBe(true)

    // From the start it is the same file again; and nothing stands after it.
    const again = await runValise(['watch', 'notes', '--from', 'start', '--count', String(lines)], { home: phone })
    expect(again.stdout.equals(file)).toBe(true)
    expect((await runValise(['send', 'notes'], { home: laptop, input: 'the end' })).exitCode).toBe(0)
    const end = await runValise(['watch', 'notes', '--count', '1', '--json'], { home: phone })
    expect(jsonLines(end.stdout)).toMatchObject([
      { stream: 'notes', stream_seq: lines + 1, type: 'file', text: 'the end' },
    ])

    expect(await server.stop()).toBe(0)
    for (const home of [laptop, phone]) {
      const verified = await runValise(['verify', '--json'], { home })
      expect(verified).toMatchObject({ exitCode: 0, stderr: '' })
      expect(lastJson(verified.stdout)).toMatchObject({ sound: true, problems: [], devices: 3, device_log_entries: 2 })
    }
    expect((await runValise(['verify'], { home: phone })).stdout.toString()).toMatch(
      /^Sound\. Checked: 2 device-log entries of 3 devices \(a recovery phrase counts as one\), 1 key epoch, /,
    )
  })
})

async function interrupt(watching: Running) {
  watching.interrupt()
  return watching.ended()
}

const countLines = (bytes: Buffer): number => bytes.toString().split('\n').length - 1
