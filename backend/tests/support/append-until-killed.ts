// A process that appends to the embedded database in a folder until somebody kills it, and says on its standard output
// what was acknowledged: a line of JSON an account and a line a batch.

import { runMigrations } from '../../src/db/migrate.ts'
import { openPglite } from '../../src/db/pglite.ts'
import { appendRuns } from '../../src/db/queries/events.ts'
import { addUser, continueRun, createCapturedParts, makeEvents } from './open-database.ts'

const [dataDir = ''] = process.argv.slice(2)
const say = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`)

const db = await openPglite({ ...createCapturedParts().parts, dataDir })
await runMigrations(db)
const { devices } = await addUser(db, 3)
say({ userId: Buffer.from(devices[0]!.userId).toString('hex') })
for (let batch = 0; ; batch++) {
  const runs = devices.map((device) => continueRun(device, makeEvents(1 + (batch % 4))))
  const verdicts = await appendRuns(db, runs)
  const wires = runs.flatMap((run) => run.events.map((event) => Buffer.from(event.wire).toString('hex')))
  say({ stored: verdicts.map((verdict, i) => [verdict.status === 'stored' ? verdict.userSeq : 0, wires[i]]) })
}
