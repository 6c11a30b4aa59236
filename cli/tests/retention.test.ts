// What a server no longer keeps, as its users see it at their terminals.
import { afterAll, expect, it } from 'vitest'
import { startServer } from './support/server.ts'
import { makeTwoDevices } from './support/user.ts'
import { cleanUp, jsonLines, makeFolder, runValise } from './support/valise.ts'

const LINE_BYTES = 250_000
const LINES = 6
/** What fits into the quota of 1 MiB. */
const KEPT = 4

afterAll(cleanUp)

it('RET-3, CLI-5: a device that comes back from beyond the horizon is told what is left out, and gets the rest', async () => {
  const folder = makeFolder()
  const environment = { VALISE_USER_BYTES: '1048576', VALISE_RETENTION_INTERVAL_MS: '50' }
  const server = await startServer(folder, { environment })
  const homes = await makeTwoDevices(server, folder)
  const input = Array.from({ length: LINES }, (_, i) => `${String(i).repeat(LINE_BYTES)}\n`).join('')
  const sent = await runValise(['send', 'notes', '--json'], { home: homes.laptop, input })
  const places = jsonLines(sent.stdout).map((receipt) => Number(receipt['user_seq']))
  expect([sent.exitCode, places.length]).toEqual([0, LINES])
  const firstKept = places.at(-KEPT)!
  const readPruned = async (): Promise<number> => {
    const metrics = await (await fetch(new URL('/metrics', server.adminUrl))).text()
    return Number(/valise_events_pruned_total\{reason="quota"\} (\d+)/.exec(metrics)?.[1] ?? 0)
  }
  // Everything before it, small things of the client's own too.
  await expect.poll(readPruned, { timeout: 20_000 }).toBe(firstKept - 1)
  const seen = await runValise(['watch', 'notes', '--count', String(KEPT), '--json'], { home: homes.phone })
  expect(seen.exitCode).toBe(0)
  expect(jsonLines(seen.stdout).map((event) => event['user_seq'])).toEqual(places.slice(-KEPT))
  const notices = jsonLines(Buffer.from(seen.stderr)).filter(({ notice }) => notice === 'resync')
  expect(notices).toMatchObject([{ to: firstKept - 1, message: expect.stringContaining('no longer keeps') }])
  // Whoever had them keeps them, and what is left can be checked.
  for (const home of [homes.laptop, homes.phone]) {
    expect((await runValise(['verify'], { home })).exitCode).toBe(0)
  }
})
