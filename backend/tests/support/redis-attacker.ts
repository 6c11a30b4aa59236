// Somebody who can reach Redis and has nothing else: a plain connection that listens and publishes.

import { createClient } from '@redis/client'

export interface CapturedMessage {
  readonly channel: string
  readonly bytes: Buffer
}

export interface RedisAttacker {
  /** Everything that was published while it listened, on every channel. */
  readonly captured: readonly CapturedMessage[]
  publish(channel: string, bytes: Uint8Array): Promise<void>
  close(): Promise<void>
}

export async function openRedisAttacker(url: string): Promise<RedisAttacker> {
  const open = async () => {
    const client = createClient({ url, RESP: 3 })
    client.on('error', () => {})
    await client.connect()
    return client
  }
  const [publisher, listener] = [await open(), await open()]
  const captured: CapturedMessage[] = []
  await listener.pSubscribe('*', (bytes, channel) => captured.push({ channel: channel.toString(), bytes }), true)
  return {
    captured,
    publish: async (channel, bytes) => {
      await publisher.publish(channel, Buffer.from(bytes))
    },
    close: async () => {
      publisher.destroy()
      listener.destroy()
    },
  }
}
