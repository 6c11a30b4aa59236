// What a server no longer keeps, as its users see it at their terminals.
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { startServer } from './support/server.ts'
import { makeTwoDevices } from './support/user.ts'
import { cleanUp, jsonLines, makeFolder, runValise } from './support/valise.ts'

const LINE_BYTES = 250_000
const LINES = 6
/** What fits into the quota of 1 MiB. */
const KEPT = 4

afterAll(cleanUp)

/** Two devices, and a log of the laptop's whose oldest lines are gone before the phone came for them. */
async function makePrunedLog() {
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
  return { folder, homes, places, firstKept }
}

const watchNotes = async (home: string, options: readonly string[] = []) => {
  const seen = await runValise(['watch', 'notes', '--count', String(KEPT), '--json', ...options], { home })
  expect(seen.exitCode).toBe(0)
  return {
    places: jsonLines(seen.stdout).map((event) => event['user_seq']),
    notices: jsonLines(Buffer.from(seen.stderr)).filter(({ notice }) => notice === 'resync'),
  }
}

it('RET-3, CLI-5: a device that comes back from beyond the horizon is told what is left out, and gets the rest', async () => {
  const { homes, places, firstKept } = await makePrunedLog()
  const seen = await watchNotes(homes.phone)
  expect(seen.places).toEqual(places.slice(-KEPT))
  expect(seen.notices).toMatchObject([{ to: firstKept - 1, message: expect.stringContaining('no longer keeps') }])
  // Whoever had them keeps them, and what is left can be checked.
  for (const home of [homes.laptop, homes.phone]) {
    expect((await runValise(['verify'], { home })).exitCode).toBe(0)
  }
})

it('RET-3, CLI-2: what another command was told is left out is said by the watch that leaves it out', async () => {
  const { folder, homes, places, firstKept } = await makePrunedLog()
  const home = homes.phone
  // It takes in the whole log, and shows none of it.
  expect((await runValise(['export', join(folder, 'export.jsonl')], { home })).exitCode).toBe(0)
  for (const options of [[], ['--from', 'start']]) {
    const seen = await watchNotes(home, options)
    expect(seen.places).toEqual(places.slice(-KEPT))
    expect(seen.notices).toMatchObject([{ to: firstKept - 1, message: expect.stringContaining('no longer keeps') }])
  }
  // Once what follows was read, it is no news.
  await runValise(['send', 'notes'], { home: homes.laptop, input: 'x\n' })
  const after = await runValise(['watch', 'notes', '--count', '1', '--json'], { home })
  expect([jsonLines(after.stdout).length, after.stderr]).toEqual([1, ''])
})
