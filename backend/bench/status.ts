// `npm run bench -- status [--fill 305] [--window 20] [--rounds 3]`: what it costs a server that somebody looks at it. An
// idle server whose five minutes are full (`--fill`, seconds) is left alone, watched by one status page, and by ten, in
// turns of `--window` seconds; each page asks once a second, as the real one and `valise top` do.

import { availableParallelism, cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { createTestDatabase } from '../tests/support/database.ts'
import { median } from './median.ts'
import { table } from './report.ts'
import { type ServerProcess, startServer } from './server-process.ts'

const { values: flags } = parseArgs({
  options: {
    fill: { type: 'string', default: '305' },
    window: { type: 'string', default: '20' },
    rounds: { type: 'string', default: '3' },
  },
})
const windowS = Number(flags.window)
const PAGES = [0, 1, 10] as const

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** CPU milliseconds of the server while so many pages are open, and the bytes of an answer. */
async function watch(server: ServerProcess, pages: number): Promise<{ cpuMs: number; bytes: number }> {
  const before = await server.readUsage()
  let bytes = 0
  for (let second = 0; second < windowS; second++) {
    const endsAtMs = performance.now() + 1000
    for (let page = 0; page < pages; page++) {
      const response = await fetch(`${server.adminUrl}/status.json`)
      bytes = (await response.arrayBuffer()).byteLength
    }
    await pause(endsAtMs - performance.now())
  }
  const after = await server.readUsage()
  return { cpuMs: after.cpuMs - before.cpuMs, bytes }
}

const database = await createTestDatabase()
const server = await startServer({ databaseUrl: database.url })
const cpuMsByPages = new Map<number, number[]>(PAGES.map((pages) => [pages, []]))
let answerBytes = 0
try {
  await pause(1000 * Number(flags.fill))
  for (let round = 0; round < Number(flags.rounds); round++) {
    for (const pages of PAGES) {
      const { cpuMs, bytes } = await watch(server, pages)
      cpuMsByPages.get(pages)?.push(cpuMs)
      answerBytes = Math.max(answerBytes, bytes)
    }
  }
} finally {
  await server.close()
  await database.drop()
}

const cpuMsOf = (pages: number): number => median(cpuMsByPages.get(pages) ?? [])
const idleMs = cpuMsOf(0)
const [processor] = cpus()
console.log(
  `\nNode ${process.versions.node}, ${availableParallelism()} × ${processor?.model}, ${process.platform} ${process.arch}`,
)
console.log(`an answer has ${answerBytes} bytes; medians of ${flags.rounds} windows of ${windowS} s\n`)
console.log(
  table(
    ['pages open', 'server CPU, % of a core', 'a look, ms of CPU'],
    PAGES.map((pages) => [
      String(pages),
      ((100 * cpuMsOf(pages)) / (1000 * windowS)).toFixed(2),
      pages === 0 ? '' : ((cpuMsOf(pages) - idleMs) / (pages * windowS)).toFixed(2),
    ]),
  ),
)
