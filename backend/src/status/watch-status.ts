// Takes a reading of the metrics each second, from the start to the end of the server, and answers with its status.

import type { Readiness } from '../http/readiness.ts'
import type { MetricSample } from '../telemetry/metrics.ts'
import { createHistory } from './history.ts'
import { type ProcessReading, takeReading } from './reading.ts'
import { describeStatus, type ServerFacts, type Status } from './status.ts'

export interface StatusParts {
  readonly server: ServerFacts
  samples(): Promise<readonly MetricSample[]>
  readProcess(): ProcessReading
  readiness(): Promise<Readiness>
  /** Unix milliseconds. */
  now(): number
}

export interface StatusWatch {
  read(): Promise<Status>
  close(): void
}

const READING_INTERVAL_MS = 1000

/** Resolves when the first reading is taken. Keeps no process alive by itself. */
export async function watchStatus(parts: StatusParts): Promise<StatusWatch> {
  const history = createHistory()
  let isReading = false
  const read = async (): Promise<void> => {
    if (isReading) return
    isReading = true
    try {
      history.add(takeReading(await parts.samples(), parts.now(), parts.readProcess()))
    } finally {
      isReading = false
    }
  }
  await read()
  // A registry that cannot be read is told by `/metrics`; the next second tries again.
  const timer = setInterval(() => void read().catch(() => {}), READING_INTERVAL_MS)
  timer.unref()
  return {
    read: async () => describeStatus(parts.server, history, await parts.readiness()),
    close: () => clearInterval(timer),
  }
}

export function readProcess(): ProcessReading {
  const { user, system } = process.cpuUsage()
  return { rssBytes: process.memoryUsage.rss(), cpuMs: (user + system) / 1000 }
}
