// `npm run bench -- instrumentation [--queries 400000] [--events 4000]`: CPU time of counting, timing and watching one
// query, beside CPU time of what an event costs this process at the very least: the query that stores it alone in its
// batch, without socket, frames and checks. In larger batches many events share one query.

import { parseArgs } from 'node:util'
import { appendRuns } from '../src/db/queries/events.ts'
import { createQueryMonitor, type QueryNote } from '../src/db/query-monitor.ts'
import { createWaitWatch } from '../src/db/wait-watch.ts'
import { createLog } from '../src/telemetry/log.ts'
import { createMetrics } from '../src/telemetry/metrics.ts'
import { addDevice, continueRun, makeEvents, openDatabase } from '../tests/support/open-database.ts'

const { values: flags } = parseArgs({
  options: { queries: { type: 'string', default: '400000' }, events: { type: 'string', default: '4000' } },
})
const ROUNDS = 5
const slowQueryMs = 1000

/** Microseconds of user and system time for each of `count` turns, the least of several rounds. */
async function measureCpu(count: number, turn: () => Promise<unknown>): Promise<number> {
  let least = Number.POSITIVE_INFINITY
  for (let round = 0; round < ROUNDS; round++) {
    const before = process.cpuUsage()
    for (let i = 0; i < count; i++) await turn()
    const { user, system } = process.cpuUsage(before)
    least = Math.min(least, (user + system) / count)
  }
  return least
}

const metrics = createMetrics().database
const monitor = createQueryMonitor({ log: createLog({ level: 'warn' }), metrics, slowQueryMs })
const watch = createWaitWatch({ slowQueryMs, readStates: async () => [] })
const statement = { name: 'bench', text: 'insert into nothing' }
const answer = async (): Promise<object[]> => []
const observed = async (note: QueryNote): Promise<object[]> => {
  metrics.observePoolWait(0.1)
  const end = watch.begin(1)
  try {
    return await answer()
  } finally {
    note.observed = end()
  }
}
const perQuery = Number(flags.queries) / ROUNDS
const bare = await measureCpu(perQuery, answer)
const instrumented = await measureCpu(perQuery, () => monitor(statement, observed))
watch.close()

const opened = await openDatabase('postgres')
const device = await addDevice(opened.db)
const append = () => appendRuns(opened.db, [continueRun(device, makeEvents(1))])
const perEvent = await measureCpu(Number(flags.events) / ROUNDS, append)
await opened.close()

const cost = instrumented - bare
console.table([
  {
    'instrumentation µs a query': Number(cost.toFixed(2)),
    'storing one event µs': Number(perEvent.toFixed(1)),
    share: `${((100 * cost) / perEvent).toFixed(2)} %`,
  },
])
