// What a test server says of itself, as conditions to wait for.

import type { ServerMessage } from '@valise/protocol'
import { expect, vi } from 'vitest'
import type { RawSession } from '../support/raw-device.ts'
import type { TestServer } from '../support/server.ts'

/** Polls until `check` stops throwing, and fails with what it threw after a deadline. */
export const until = (check: () => unknown): Promise<unknown> => vi.waitFor(check, { timeout: 20_000, interval: 10 })

/** Every socket is gone, and with it what it left to be done. */
export const untilNoConnections = (server: TestServer): Promise<unknown> =>
  until(async () => expect(await server.app.metrics.read('valise_connections')).toBe(0))

/** What the server said to what it was asked; word of other devices comes unasked. */
export const answersIn = (session: Pick<RawSession, 'messages'>): ServerMessage[] =>
  session.messages.filter(({ type }) => type !== 'presence')
