// The close codes that end a client for good: what `watch`, `send` and `status` say of each, and what is left on the device.
import { ERROR_CODES, type ErrorCode, errorEntry } from '@valise/protocol'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type ClosingProxy, startClosingProxy } from '../../backend/tests/support/closing-proxy.ts'
import { startServer, type TestServer } from './support/server.ts'
import { initDevice } from './support/user.ts'
import { cleanUp, lastJson, makeFolder, runValise } from './support/valise.ts'

let server: TestServer
let proxy: ClosingProxy
let home: string

beforeAll(async () => {
  server = await startServer(makeFolder())
  proxy = await startClosingProxy(server.url)
  home = makeFolder()
  await initDevice({ ...server, url: proxy.url }, home)
})
afterAll(async () => {
  await proxy?.close()
  await cleanUp()
})

const REPORT = 'Please report this with the output of `valise status`.'

/** By the code of the registry: what machines read, and what people do. */
const WORDS: Partial<Record<ErrorCode, readonly [code: string, text: string]>> = {
  version_unsupported: [
    'version_unsupported',
    'This protocol version is not supported. Update this program, or ask the operator to update the server.',
  ],
  // Nothing but the signed entry proves it.
  device_revoked: [
    'revocation_unproven',
    'The server says that this device was revoked, and does not show the signed entry. Nothing was erased. Look at `valise devices` on another device: if this one is active there, the server does not tell the truth.',
  ],
  session_superseded: [
    'session_superseded',
    'A newer session of this device took over. Another program uses the same device. End one of the two, then start again.',
  ],
  device_seq_conflict: [
    'device_cloned',
    'ALARM device_cloned: The server holds events of this device that this device does not know. This home folder was restored from an older copy or is used twice. Link this device anew into an empty home folder.',
  ],
  account_deleted: [
    'account_deleted',
    'This account was deleted. The account is gone from the server, for all devices and for good. What this device holds is kept, and `valise export FILE --offline` writes it out; remove its home folder to erase it.',
  ],
  frame_too_large: ['frame_too_large', `The frame is larger than max_frame. ${REPORT}`],
  bad_message: ['bad_message', `Too many malformed messages. ${REPORT}`],
}

const terminal = ERROR_CODES.filter((code) => {
  const { close = 0, action } = errorEntry(code)
  return close >= 4400 && close <= 4499 && (action === 'stop' || action === 'alarm')
})

it('CLI-7: each close code that ends a client for good has its words here', () => {
  expect(Object.keys(WORDS).sort()).toEqual([...terminal].sort())
})

describe.each(terminal)('a session that is closed for %s', (closeCode) => {
  const { close: code = 0, text: reason } = errorEntry(closeCode)
  const [machineCode, words] = WORDS[closeCode]!

  it.each(['watch', 'send'])('CLI-7: %s says so once, what to do, and ends with 3', async (command) => {
    proxy.closeWith({ code, reason })
    const people = await runValise([command, 'notes'], { home, input: 'kept\n' })
    expect(people).toMatchObject({ exitCode: 3, stderr: `${words}\n` })
    expect(people.stdout.toString()).toBe('')
    const machines = await runValise([command, 'notes', '--json'], { home, input: 'kept\n' })
    expect(machines.exitCode).toBe(3)
    expect(JSON.parse(machines.stderr)).toEqual({ error: machineCode, message: words })
  })

  it('CLI-6: status tells what the device holds, and that its server answers', async () => {
    proxy.closeWith({ code, reason })
    const status = await runValise(['status', '--json'], { home })
    expect(status).toMatchObject({ exitCode: 0, stderr: '' })
    expect(lastJson(status.stdout)).toMatchObject({ name: 'laptop', server_answer: 'answers', lost_log: null })
  })
})

it('CLI-3: all that was read meanwhile is sent when sessions stand again', async () => {
  const { outbox_events: kept } = lastJson((await runValise(['status', '--json'], { home })).stdout)
  expect(kept).toBeGreaterThan(0)
  proxy.closeWith(undefined)
  const sent = await runValise(['send', 'notes'], { home, input: 'last\n' })
  expect(sent).toMatchObject({ exitCode: 0, stderr: '' })
  expect(lastJson((await runValise(['status', '--json'], { home })).stdout)).toMatchObject({ outbox_events: 0 })
})
