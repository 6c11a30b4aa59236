// A server whose clock a test moves, and what it logs: for the rotation of session keys (SES-2).

import { createLog } from '../../src/telemetry/log.ts'
import type { RawSession, SessionTarget } from './raw-device.ts'
import { startTestServer, type TestServer, type TestServerOptions } from './server.ts'

export const HOUR_MS = 3_600_000

export interface RotationScene extends SessionTarget {
  readonly server: TestServer
  now(): number
  advance(byMs: number): void
  /** What the server logged with this event name. */
  logged(event: string): Record<string, unknown>[]
  close(): Promise<void>
}

export async function openRotationScene(options: Partial<TestServerOptions> = {}): Promise<RotationScene> {
  let nowMs = Date.now()
  const lines: Record<string, unknown>[] = []
  const log = createLog({ level: 'debug', stream: { write: (line: string) => void lines.push(JSON.parse(line)) } })
  const server = await startTestServer({ database: 'postgres', now: () => nowMs, log, ...options })
  return {
    server,
    url: server.url,
    fingerprint: server.fingerprint,
    now: () => nowMs,
    advance: (byMs) => {
      nowMs += byMs
    },
    logged: (event) => lines.filter((line) => line['event'] === event),
    close: server.close,
  }
}

export const ROTATION_CLOSE = { code: 1001, reason: 'Session key rotation required' }

/** Closed as the limit demands; rejects when it is closed in another way, or not within a deadline. */
export async function expectRotationClose(session: RawSession): Promise<void> {
  await session.until('the close', () => session.closeFrame !== undefined)
  const { code, reason } = await session.closed
  if (code !== ROTATION_CLOSE.code || reason !== ROTATION_CLOSE.reason) throw new Error(`closed by ${code} ${reason}`)
}
