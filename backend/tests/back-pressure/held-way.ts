// A proxy between one device and its node that passes on as many bytes from the node as the test says, so that the
// node's kernel sees a reader who takes nothing, or a little.

import { connect, createServer, type Socket } from 'node:net'
import { listenLocally, tie } from '../support/local-listener.ts'

export interface HeldWay {
  /** `ws://…`, where the device connects. */
  readonly url: string
  /** From now on only what `pass` allows comes through; before, and after `release`, everything. */
  hold(): void
  pass(bytes: number): void
  /** Of what `pass` allowed, what has not come yet. */
  readonly allowedBytes: number
  release(): void
  close(): Promise<void>
}

export async function startHeldWay(target: string): Promise<HeldWay> {
  let allowedBytes = Number.POSITIVE_INFINITY
  const ways = new Map<Socket, () => void>()
  const server = createServer((device) => {
    const node = connect(Number(new URL(target).port), '127.0.0.1')
    const flow = (): void => {
      while (allowedBytes > 0 && node.readableLength > 0) {
        const chunk: Buffer = node.read(Math.min(allowedBytes, node.readableLength))
        allowedBytes -= chunk.length
        device.write(chunk)
      }
      if (allowedBytes > 0) node.read(0)
    }
    ways.set(device, flow)
    device.pipe(node)
    node.on('readable', flow)
    tie(device, node)
    device.on('close', () => ways.delete(device))
  })
  const listener = await listenLocally(server)
  const allow = (bytes: number): void => {
    allowedBytes = bytes
    for (const flow of ways.values()) flow()
  }
  return {
    url: `ws://127.0.0.1:${listener.port}`,
    hold: () => allow(0),
    pass: (bytes) => allow(allowedBytes + bytes),
    get allowedBytes() {
      return allowedBytes
    },
    release: () => allow(Number.POSITIVE_INFINITY),
    close: listener.close,
  }
}
