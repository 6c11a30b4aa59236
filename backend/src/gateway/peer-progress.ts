// Whether a peer takes what it is sent, however slowly. `bufferedAmount` falls only when a whole write is done, and the
// kernel takes more only when a third of its own buffer of up to 4 MiB is free again: a reader of 20 KB/s shows in
// neither for a minute. What the other side acknowledges shows at once, in the kernel's table of connections.

import { readlinkSync } from 'node:fs'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { readTcpTable, type UnacknowledgedBytes } from './tcp-table.ts'

export interface PeerProgress {
  /** How many looks found that the peer had taken bytes since the one before. */
  sightings(): number
  /** Begins a look, which a table read after that ends; undefined where there is none. */
  look(): (unacknowledged: UnacknowledgedBytes | undefined) => void
}

/** Node's own idle timer judges by these (`_onTimeout` in net.js), and hands them out no other way. */
interface Handle {
  readonly fd: number
  /** Bytes given to libuv, and of those the ones that the kernel has not taken. */
  readonly bytesWritten: number
  readonly writeQueueSize: number
}

const isHandle = (value: unknown): value is Handle =>
  typeof value === 'object' &&
  value !== null &&
  ['fd', 'bytesWritten', 'writeQueueSize'].every((field) => typeof Reflect.get(value, field) === 'number')

/** For a TCP socket without TLS: with it the two counters would be of different bytes. */
export function createPeerProgress(transport: Duplex): PeerProgress {
  const handle: unknown = transport instanceof Socket ? Reflect.get(transport, '_handle') : undefined
  const inode = isHandle(handle) ? inodeOf(handle) : undefined
  let sightings = 0
  let seen = { takenBytes: 0, waitingBytes: 0 }
  return {
    sightings: () => sightings,
    look: () => {
      // What the kernel takes from here on shows in the next look, whether the table has it or not.
      const takenBytes =
        isHandle(handle) && !transport.destroyed ? handle.bytesWritten - handle.writeQueueSize : seen.takenBytes
      return (unacknowledged) => {
        const waitingBytes = (inode === undefined ? undefined : unacknowledged?.get(inode)) ?? 0
        if (takenBytes > seen.takenBytes || waitingBytes < seen.waitingBytes) sightings++
        seen = { takenBytes, waitingBytes }
      }
    },
  }
}

function inodeOf({ fd }: Handle): string | undefined {
  try {
    return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[1]
  } catch {
    return undefined
  }
}

export interface WatchedPeer {
  /** More waits for it than its bound. */
  isFull(): boolean
  lookAtProgress(): (unacknowledged: UnacknowledgedBytes | undefined) => void
}

/** Looks, while there are peers with a full buffer, at what each has taken; one look at a time. */
export function createProgressWatch(): { look(peers: Iterable<WatchedPeer>): void } {
  let isLooking = false
  return {
    look: (peers) => {
      const full = [...peers].filter((peer) => peer.isFull())
      if (isLooking || full.length === 0) return
      isLooking = true
      const looks = full.map((peer) => peer.lookAtProgress())
      void readTcpTable().then((unacknowledged) => {
        isLooking = false
        for (const endLook of looks) endLook(unacknowledged)
      })
    },
  }
}
