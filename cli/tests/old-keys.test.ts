// Keys of old epochs on a server that drops the boxes a device has: every device, also a later one and one made by the
// phrase, reads everything.
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createTestDatabase, runSql, type TestDatabase } from '../../backend/tests/support/database.ts'
import { startServer, type TestServer } from './support/server.ts'
import { linkDevice, makeTwoDevices } from './support/user.ts'
import { cleanUp, makeFolder, runValise } from './support/valise.ts'

let database: TestDatabase
let server: TestServer
let folder: string

beforeAll(async () => {
  folder = makeFolder()
  database = await createTestDatabase()
  server = await startServer(folder, { environment: { DATABASE_URL: database.url } })
})
afterAll(async () => {
  await cleanUp()
  await database?.drop()
})

const done = async (args: readonly string[], home: string, input?: string): Promise<string> => {
  const { exitCode, stdout, stderr } = await runValise(args, { home, ...(input === undefined ? {} : { input }) })
  expect(exitCode, stderr).toBe(0)
  return stdout.toString()
}

/** How many boxes each device has on the server, the fewest first. */
async function countBoxes(): Promise<number[]> {
  const rows = await runSql<{ count: string }>(
    database.url,
    'select count(*) from key_envelopes group by device_id order by count(*)',
  )
  return rows.map(({ count }) => Number(count))
}

it('DEV-18: five changes of keys while a device is away, then one that joins, then the phrase: all read all', async () => {
  const { laptop, phone, phrase } = await makeTwoDevices(server, folder)
  const sent: string[] = []
  for (let epoch = 1; epoch <= 6; epoch++) {
    if (epoch > 1) await done(['rotate'], laptop)
    sent.push(`line ${epoch}`)
    await done(['send', 'notes'], laptop, `line ${epoch}\n`)
  }
  const all = `${sent.join('\n')}\n`
  expect(await done(['watch', 'notes', '--count', '6'], phone)).toBe(all)
  // What both have is dropped when they ask for more; the phrase's boxes stay.
  await done(['rotate'], laptop)
  await done(['send', 'notes'], phone, 'from the phone\n')
  const counts = await countBoxes()
  expect(counts).toHaveLength(3)
  expect(counts.at(-1)).toBe(7)
  expect(counts[0]).toBeLessThanOrEqual(2)
  expect(counts[1]).toBeLessThanOrEqual(2)

  const tablet = await linkDevice(server, laptop, join(folder, 'tablet'))
  const everything = `${all}from the phone\n`
  expect(await done(['watch', 'notes', '--count', '7'], tablet)).toBe(everything)
  const recovered = join(folder, 'recovered')
  const fingerprint = ['--server', server.url, '--fingerprint', server.fingerprint]
  await done(
    ['recover', ...fingerprint, '--name', 'recovered', '--yes', '--phrase-file', '-'],
    recovered,
    `${phrase}\n`,
  )
  expect(await done(['watch', 'notes', '--count', '7'], recovered)).toBe(everything)
}, 240_000)
