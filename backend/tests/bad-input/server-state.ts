// What a test server says of itself, as conditions to wait for.

import { expect, vi } from 'vitest'
import type { TestServer } from '../support/server.ts'

/** Polls until `check` stops throwing, and fails with what it threw after a deadline. */
export const until = (check: () => unknown): Promise<unknown> => vi.waitFor(check, { timeout: 20_000, interval: 10 })

/** Every socket is gone, and with it what it left to be done. */
export const untilNoConnections = (server: TestServer): Promise<unknown> =>
  until(async () => expect(await server.app.metrics.read('valise_connections')).toBe(0))
