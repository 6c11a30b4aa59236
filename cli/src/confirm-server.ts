// First contact with a server on another machine over ws://, which proves nothing and hides nothing: a person compares the
// fingerprint of its key before it is trusted.

import type { UnprovenServer } from '@valise/client/node'
import { MisuseError } from './failure.ts'
import type { Invocation } from './invocation.ts'
import { printable } from './visible.ts'

/** Asks once for a server, however often it is met. */
export function createConfirmServer({ output, prompt }: Invocation, signal: AbortSignal) {
  const confirmed = new Set<string>()
  return async ({ serverUrl, fingerprint }: UnprovenServer): Promise<boolean> => {
    if (confirmed.has(fingerprint)) return true
    const where = printable(serverUrl)
    try {
      prompt.requireSomeone()
    } catch (cause) {
      throw new MisuseError(
        'unverified_server',
        `${where} is on another machine, and ws:// does not prove that the right one answers. Give --fingerprint with what the server prints when it starts, use wss://, or give --yes to trust what answers (${fingerprint}).`,
        { cause },
      )
    }
    output.notice(
      'unverified_server',
      `${where} is on another machine, and ws:// does not prove that the right one answers. What answers has this fingerprint: ${fingerprint}`,
      { server: serverUrl, fingerprint },
    )
    const isConfirmed = await prompt.confirm('Did its operator tell you this fingerprint?', signal)
    if (isConfirmed) confirmed.add(fingerprint)
    return isConfirmed
  }
}
