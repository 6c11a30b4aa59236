// A process of its own in which devices come and go, round after round. Says after each round, as a line of JSON, what
// the heap holds when everybody has left, and how many timers and sockets there are. Run it with --expose-gc.

import { createSeededRandom } from '../support/seeded-random.ts'
import { attachDevice, createMemoryLog, openHubNode } from './hub-node.ts'

const [url = '', rounds = '1', comings = '1'] = process.argv.slice(2)
const collectGarbage = globalThis.gc
if (collectGarbage === undefined) throw new Error('run it with --expose-gc')

const USERS = 200
const random = createSeededRandom(3)
const memoryLog = createMemoryLog()
const node = await openHubNode(url, memoryLog, 'silent')
for (let round = 0; round < Number(rounds); round++) {
  const detaching: Promise<void>[] = []
  for (let i = 0; i < Number(comings); i++) {
    const chosen = { user: random.below(USERS), isBroken: false, deviceHash: 'fedcba9876543210' }
    const attaching = attachDevice(node, memoryLog, chosen)
    memoryLog.append(random.below(USERS), node.hubs)
    detaching.push(attaching.then((device) => device.detach()))
    if (random.chance(5)) await Promise.all(detaching.splice(0))
  }
  await Promise.all(detaching)
  await new Promise((resolve) => setImmediate(resolve))
  collectGarbage()
  collectGarbage()
  const resources = process.getActiveResourcesInfo().filter((kind) => /Timeout|TCP/.test(kind)).length
  const active = await node.metrics.read('redis_subscribers_active')
  console.log(JSON.stringify({ heapBytes: process.memoryUsage().heapUsed, resources, active }))
}
await node.close()
