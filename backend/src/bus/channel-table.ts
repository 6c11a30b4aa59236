// The channels of this node: who wants them, and what Redis has confirmed. References change synchronously; a channel
// has at most one operation in flight, and the next is chosen from what is wanted when that one has ended, so an
// unsubscribe never lands after a newer subscribe. What a lost connection held is gone with it. No I/O of its own.

import type { Subscriber } from './subscribers.ts'

/** One connection to Redis. Both reject when Redis refuses or the connection ends. */
export interface ChannelRemote {
  subscribe(names: readonly string[]): Promise<void>
  unsubscribe(names: readonly string[]): Promise<void>
}

export interface ChannelTableParts {
  /** Channels that Redis holds for this node, whenever that changes. */
  onActive(count: number): void
  /** The last subscriber's channel was left. */
  onLeft(deviceHash: string): void
  /** Redis refused an operation: the connection is not to be trusted any more and has been disconnected here. */
  onFailure(failure: { operation: 'subscribe' | 'unsubscribe'; deviceHashes: readonly string[]; error: unknown }): void
}

export interface ChannelTable {
  /** Resolves when the channel is heard, or at once without a connection. */
  add(name: string, userId: Uint8Array, subscriber: Subscriber): Promise<void>
  /** Resolves when the channel is left, is needed by others, or at once without a connection. */
  remove(name: string, subscriber: Subscriber): Promise<void>
  find(name: string): { readonly userId: Uint8Array; readonly subscribers: ReadonlySet<Subscriber> } | undefined
  /** Subscribes on a new connection to everything wanted; resolves when that has ended, also when it has failed. */
  connect(remote: ChannelRemote): Promise<void>
  disconnect(): void
  /** Forgets every subscriber; resolves when Redis has confirmed that nothing is left. */
  clear(): Promise<void>
}

interface Channel {
  readonly name: string
  readonly userId: Uint8Array
  readonly subscribers: Set<Subscriber>
  state: 'absent' | 'subscribing' | 'subscribed' | 'unsubscribing'
  /** Of whoever came or left last: the context of the next line in the log. */
  deviceHash: string
  readonly onHeard: (() => void)[]
  readonly onGone: (() => void)[]
}

/** One command carries as many channels: 512 names are 27 KiB, well within what a socket takes at once. */
const CHANNELS_PER_COMMAND = 512

const isActive = (state: Channel['state']): boolean => state === 'subscribed' || state === 'unsubscribing'

/** What brings the confirmed state to the wanted one; nothing while an operation is in flight. */
function needsOperation(channel: Channel): 'subscribe' | 'unsubscribe' | undefined {
  if (channel.state === 'absent' && channel.subscribers.size > 0) return 'subscribe'
  if (channel.state === 'subscribed' && channel.subscribers.size === 0) return 'unsubscribe'
  return undefined
}

export function createChannelTable({ onActive, onLeft, onFailure }: ChannelTableParts): ChannelTable {
  const channelByName = new Map<string, Channel>()
  /** Channels whose wanted and confirmed states may differ. */
  const dirty = new Set<Channel>()
  let remote: ChannelRemote | undefined
  let activeCount = 0
  let isFlushPlanned = false

  const setState = (channel: Channel, state: Channel['state']): void => {
    const change = Number(isActive(state)) - Number(isActive(channel.state))
    channel.state = state
    if (change === 0) return
    activeCount += change
    onActive(activeCount)
  }

  /** Lets go of those who wait for a state that has come, or that nobody wants any more. */
  const settle = (channel: Channel): void => {
    const isWanted = channel.subscribers.size > 0
    const isAway = remote === undefined
    if (isAway || !isWanted || channel.state === 'subscribed')
      for (const resolve of channel.onHeard.splice(0)) resolve()
    if (isAway || isWanted || channel.state === 'absent') for (const resolve of channel.onGone.splice(0)) resolve()
    const isLeft = !isWanted && channel.state === 'absent'
    // The name may already stand for a newer channel.
    if (isLeft && channelByName.get(channel.name) === channel) channelByName.delete(channel.name)
  }

  const touch = (channel: Channel): void => {
    dirty.add(channel)
    if (isFlushPlanned || remote === undefined) return
    isFlushPlanned = true
    // Everything of one turn goes in one command; a channel left and taken again within it causes none.
    queueMicrotask(() => {
      isFlushPlanned = false
      void flush()
    })
  }

  const run = async (operation: 'subscribe' | 'unsubscribe', channels: readonly Channel[]): Promise<void> => {
    const current = remote
    if (current === undefined) return
    for (const channel of channels) setState(channel, operation === 'subscribe' ? 'subscribing' : 'unsubscribing')
    try {
      await current[operation](channels.map((channel) => channel.name))
    } catch (error) {
      if (remote !== current) return
      disconnect()
      onFailure({ operation, deviceHashes: channels.slice(0, 10).map((channel) => channel.deviceHash), error })
      return
    }
    // The connection was lost meanwhile: `disconnect` has already set these channels right.
    if (remote !== current) return
    for (const channel of channels) {
      setState(channel, operation === 'subscribe' ? 'subscribed' : 'absent')
      if (operation === 'unsubscribe') onLeft(channel.deviceHash)
      settle(channel)
      if (needsOperation(channel) !== undefined) touch(channel)
    }
  }

  const flush = async (): Promise<void> => {
    if (remote === undefined) return
    const channels = [...dirty]
    dirty.clear()
    for (const channel of channels) if (needsOperation(channel) === undefined) settle(channel)
    const runs: Promise<void>[] = []
    for (const operation of ['unsubscribe', 'subscribe'] as const) {
      const due = channels.filter((channel) => needsOperation(channel) === operation)
      for (let at = 0; at < due.length; at += CHANNELS_PER_COMMAND) {
        runs.push(run(operation, due.slice(at, at + CHANNELS_PER_COMMAND)))
      }
    }
    await Promise.all(runs)
  }

  const disconnect = (): void => {
    remote = undefined
    dirty.clear()
    for (const channel of [...channelByName.values()]) {
      setState(channel, 'absent')
      settle(channel)
    }
  }

  return {
    add: (name, userId, subscriber) => {
      const found = channelByName.get(name)
      const { deviceHash } = subscriber.context
      const channel: Channel = found ?? {
        name,
        userId,
        subscribers: new Set(),
        state: 'absent',
        deviceHash,
        onHeard: [],
        onGone: [],
      }
      if (found === undefined) channelByName.set(name, channel)
      channel.deviceHash = deviceHash
      channel.subscribers.add(subscriber)
      if (remote === undefined || channel.state === 'subscribed') return Promise.resolve()
      touch(channel)
      return new Promise((resolve) => channel.onHeard.push(resolve))
    },
    remove: (name, subscriber) => {
      const channel = channelByName.get(name)
      if (channel === undefined || !channel.subscribers.delete(subscriber)) return Promise.resolve()
      channel.deviceHash = subscriber.context.deviceHash
      if (channel.subscribers.size > 0) return Promise.resolve()
      if (remote === undefined) {
        settle(channel)
        return Promise.resolve()
      }
      touch(channel)
      return new Promise((resolve) => channel.onGone.push(resolve))
    },
    find: (name) => channelByName.get(name),
    connect: (next) => {
      remote = next
      for (const channel of channelByName.values()) dirty.add(channel)
      return flush()
    },
    disconnect,
    clear: async () => {
      const gone: Promise<void>[] = []
      for (const channel of channelByName.values()) {
        channel.subscribers.clear()
        if (remote !== undefined) gone.push(new Promise((resolve) => channel.onGone.push(resolve)))
        touch(channel)
      }
      if (remote === undefined) disconnect()
      await Promise.all(gone)
    },
  }
}
