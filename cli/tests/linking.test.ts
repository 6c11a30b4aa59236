// Linking by hand when not everything is in its place: the server restarts while a device waits, or nobody waits at all.
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { startServer, type TestServer } from './support/server.ts'
import { initDevice } from './support/user.ts'
import { cleanUp, makeFolder, type Running, runValise, startValise } from './support/valise.ts'

let folder: string
let server: TestServer
let laptop: string

beforeAll(async () => {
  folder = makeFolder()
  server = await startServer(folder)
  laptop = join(folder, 'laptop')
  await initDevice(server, laptop)
})
afterAll(cleanUp)

async function startLinking(home: string): Promise<{ readonly linking: Running; readonly request: string }> {
  const linking = startValise(['link', '--server', server.url, '--name', 'phone', '--json'], { home })
  await linking.until('the request', ({ stdout }) => stdout.includes('\n'))
  return { linking, request: JSON.parse(linking.stdout.toString().split('\n')[0]!).request }
}

it('DEV-3: a device that waits for its approval waits out a restart and a kill -9 of the server', async () => {
  const { linking, request } = await startLinking(join(folder, 'phone'))
  await server.stop()
  await server.startAgain()
  await server.kill()
  await server.startAgain()
  expect(await runValise(['approve', request, '--yes'], { home: laptop })).toMatchObject({ exitCode: 0, stderr: '' })
  expect(await linking.ended()).toMatchObject({ exitCode: 0, stderr: '' })
})

it('CLI-4: that nobody waits with a request any more is told, and Ctrl-C ends it', async () => {
  const { linking, request } = await startLinking(join(folder, 'tablet'))
  linking.interrupt()
  expect((await linking.ended()).exitCode).toBe(130)
  const approving = startValise(['approve', request, '--yes'], { home: laptop })
  await approving.until('word of it', ({ stderr }) => stderr.includes('Is `valise link` still waiting there?'))
  approving.interrupt()
  expect((await approving.ended()).exitCode).toBe(130)
})
