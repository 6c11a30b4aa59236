// An embedded database that has been made but holds nothing yet. Making one costs seconds of CPU time, so a run of the
// tests makes one and copies it; how it is made, and that a start killed half way leaves none, is db-pglite.test.ts.

import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { cp, mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { openPglite } from '../../src/db/pglite.ts'
import { createLog } from '../../src/telemetry/log.ts'
import { createMetrics } from '../../src/telemetry/metrics.ts'

/** Puts one into a server's data folder, for its first start to find. */
export async function provideEmptyCluster(dataDir: string): Promise<void> {
  const runFolder = process.env['VALISE_TEST_FOLDER']
  if (!runFolder) throw new Error('VALISE_TEST_FOLDER is not set: run the tests with `npm test`, which makes it')
  const template = join(runFolder, 'empty-cluster')
  if (!existsSync(template)) await makeTemplate(template)
  await mkdir(dataDir, { recursive: true, mode: 0o700 })
  await cp(template, join(dataDir, 'database'), { recursive: true })
}

/** Two test files may come here at once: the first to finish names it, and the other's goes away. */
async function makeTemplate(template: string): Promise<void> {
  const draft = `${template}-${randomBytes(8).toString('hex')}`
  const db = await openPglite({
    dataDir: draft,
    log: createLog({ level: 'silent' }),
    metrics: createMetrics().database,
    slowQueryMs: 10_000,
  })
  await db.close()
  await rename(draft, template).catch(async (error: unknown) => {
    if (!existsSync(template)) throw error
    await rm(draft, { recursive: true })
  })
}
