// The embedded database: PGlite (PostgreSQL in WebAssembly) in a folder. One connection, so everything runs one
// after another. What resolves is in the write-ahead log on the disk; a second server on the folder is refused.

import { existsSync, mkdirSync } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { PGlite } from '@electric-sql/pglite'
import { checkPrivateFolder } from '../files/private-file.ts'
import type { Database, Queryable } from './database.ts'
import { lockFolder } from './folder-lock.ts'
import { createQueryMonitor, type QueryMonitorParts, type QueryNote } from './query-monitor.ts'
import { operationOf, type Statement } from './statement.ts'
import { runTransaction } from './transaction.ts'
import { BYTEA_OID, formatBytea, PARSERS } from './values.ts'
import { createWalSync, syncPath, syncTree } from './wal-sync.ts'

export interface PgliteParts extends QueryMonitorParts {
  /** Made when missing, mode 0700, which keeps others away: PGlite sets its files to 0666 whatever the umask. */
  readonly dataDir: string
}

/** Rejects with a FolderLockedError when another server uses the folder, a PrivateFileError when others can enter it. */
export async function openPglite(parts: PgliteParts): Promise<Database> {
  const { dataDir } = parts
  mkdirSync(dataDir, { recursive: true, mode: 0o700 })
  await checkPrivateFolder(dataDir)
  const lock = lockFolder(join(dataDir, 'server.lock'))
  try {
    const clusterDir = await provideCluster(dataDir)
    const pglite = await start(clusterDir)
    const walSync = createWalSync(clusterDir)
    const close = async (): Promise<void> => {
      await walSync.close()
      lock.release()
    }
    return createDatabase(parts, pglite, { sync: walSync.sync, close })
  } catch (error) {
    lock.release()
    throw error
  }
}

const start = (clusterDir: string): Promise<PGlite> =>
  PGlite.create({
    dataDir: clusterDir,
    parsers: PARSERS,
    serializers: { [BYTEA_OID]: formatBytea },
  })

/** A cluster gets its name when it is whole and on the disk: a start that is killed half way leaves none. */
async function provideCluster(dataDir: string): Promise<string> {
  const clusterDir = join(dataDir, 'cluster')
  if (existsSync(clusterDir)) return clusterDir
  const draft = join(dataDir, 'cluster.unfinished')
  await rm(draft, { recursive: true, force: true })
  await (await start(draft)).close()
  await syncTree(draft)
  await rename(draft, clusterDir)
  await syncPath(dataDir)
  return clusterDir
}

interface Disk {
  sync(): Promise<void>
  close(): Promise<void>
}

function createDatabase(parts: PgliteParts, pglite: PGlite, disk: Disk): Database {
  const { log } = parts
  const monitor = createQueryMonitor(parts)

  const run = async <Row extends object>(statement: Statement, values: readonly unknown[]): Promise<Row[]> => {
    try {
      return (await pglite.query<Row>(statement.text, [...values])).rows
    } catch (error) {
      throw withoutValues(error)
    }
  }

  const syncDisk = async (note: QueryNote): Promise<void> => {
    const startedAtMs = performance.now()
    await disk.sync()
    note.diskMs += performance.now() - startedAtMs
  }

  let tail: Promise<unknown> = Promise.resolve()
  let waitingCount = 0
  /** It computes in this process: with many in a row, sockets and timers get their turn between two. */
  const yieldToOthers = (): Promise<void> | undefined => (waitingCount > 0 ? nextTurn() : undefined)
  /** A statement between `begin` and `commit` of somebody else would become part of that transaction. */
  const runExclusive = <T>(work: () => Promise<T>): Promise<T> => {
    waitingCount++
    const result = tail.then(() => {
      waitingCount--
      return work()
    })
    tail = result.catch(() => undefined).then(yieldToOthers)
    return result
  }

  /** The wait for its turn belongs to the transaction's first statement. */
  const createTx = (waitedMs: number): Queryable => {
    let owedMs = waitedMs
    return {
      query: <Row extends object>(statement: Statement, values: readonly unknown[]) => {
        const waited = owedMs
        owedMs = 0
        const work = async (note: QueryNote): Promise<Row[]> => {
          const rows = await run<Row>(statement, values)
          if (statement.text === 'commit') await syncDisk(note)
          return rows
        }
        return monitor(statement, work, waited)
      },
    }
  }

  return {
    kind: 'pglite',
    query: <Row extends object>(statement: Statement, values: readonly unknown[]) =>
      monitor(statement, (note) => {
        const queuedAtMs = performance.now()
        return runExclusive(async () => {
          note.waitMs = performance.now() - queuedAtMs
          const rows = await run<Row>(statement, values)
          // Before anybody else can read what is written: nothing is seen that a power cut can take back.
          if (operationOf(statement) !== 'select') await syncDisk(note)
          return rows
        })
      }),
    transaction: (options, work) =>
      runTransaction(
        (use) => {
          const queuedAtMs = performance.now()
          return runExclusive(() => use(createTx(performance.now() - queuedAtMs)))
        },
        options,
        work,
        (err, attempt) =>
          log.warn(
            { event: 'db.transaction.retry', transaction: options.name, attempt, err },
            'A transaction runs again',
          ),
      ),
    close: () =>
      runExclusive(async () => {
        await pglite.close()
        await disk.close()
      }),
  }
}

/** PGlite hangs query and parameters on its errors; a parameter must never reach a log. */
function withoutValues(error: unknown): unknown {
  if (error instanceof Error) {
    for (const field of ['params', 'query', 'queryOptions', 'detail']) Reflect.deleteProperty(error, field)
  }
  return error
}
