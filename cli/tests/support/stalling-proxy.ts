// A proxy before a server that stops passing on what the server says, for good, when the test finds that it is time: what
// is said to the server goes on.

import { connect, createServer, type Socket } from 'node:net'
import { listenLocally } from '../../../backend/tests/support/local-listener.ts'
import { within } from './deadline.ts'

export interface StallingProxy {
  /** `ws://…`, for what the server at the target is good for. */
  readonly url: string
  /**
   * From now on asks before each piece whether to keep it and all that follows; resolves when that has happened. Then
   * nothing stalls until the next call.
   */
  stallWhen(isTime: () => Promise<boolean>): Promise<void>
  close(): Promise<void>
}

const DEADLINE_MS = 50_000

export async function startStallingProxy(target: string): Promise<StallingProxy> {
  const port = Number(new URL(target).port)
  let isTime: (() => Promise<boolean>) | undefined
  let onStall = (): void => {}

  /** Passes on in order; false once everything stalls. */
  const passOn = async (from: Socket, to: Socket): Promise<void> => {
    for await (const piece of from) {
      if (isTime !== undefined && (await isTime())) {
        isTime = undefined
        onStall()
        return
      }
      to.write(piece)
    }
    to.end()
  }

  const server = createServer((downstream) => {
    const upstream = connect(port, '127.0.0.1')
    for (const socket of [downstream, upstream]) socket.on('error', () => {})
    downstream.pipe(upstream)
    downstream.on('close', () => upstream.destroy())
    passOn(upstream, downstream).catch(() => downstream.destroy())
  })
  const listener = await listenLocally(server)
  return {
    url: `ws://127.0.0.1:${listener.port}`,
    stallWhen: (condition) => {
      const stalled = new Promise<void>((resolve) => {
        onStall = resolve
      })
      isTime = condition
      return within(DEADLINE_MS, 'the proxy to stall', stalled)
    },
    close: listener.close,
  }
}
