// Who of a user's devices is online (PRE-1 to PRE-3): each session holds its device's lease, is told of the others in
// one snapshot, and then what changes. Changes come by announcement; comparing with the leases, several times a lease,
// finds what no announcement told: a node that died, word that was lost.

import { equalBytes, type Presence as PresenceMessage, toDeviceId } from '@valise/protocol'
import type { PresenceAnnouncement } from '../bus/bus.ts'
import type { DeviceKey } from '../db/queries/devices.ts'
import type { SeenDevice } from '../db/queries/sessions.ts'
import type { Session } from '../gateway/session.ts'
import { type Lease, type Leases, leaseKey } from './leases.ts'
import {
  createEarlyNews,
  createPicture,
  type DevicePicture,
  type EarlyNews,
  type Picture,
  toPresenceMessage,
} from './picture.ts'

export interface PresenceParts {
  readonly leases: Leases
  /** No device is shown online for longer after it was last known to be (PRE-3). */
  readonly staleAfterMs: number
  /** Unix milliseconds. */
  now(): number
  noteSeen(userId: Uint8Array, deviceId: Uint8Array, atMs: number): Promise<void>
  announce(announcement: PresenceAnnouncement): void
  onFailure(error: unknown): void
}

export interface PresenceSession {
  /** The client was greeted: the device is online, and its session is told of the others. */
  start(): void
  /** What is heard before the snapshot is told in it. */
  hear(announcement: PresenceAnnouncement): void
  /** Resolves when the device is offline, unless a newer session holds it. */
  end(): Promise<void>
}

export interface BegunPresence {
  readonly number: number
  readonly others: readonly SeenDevice[]
}

export interface Presence {
  /** `others` as the session's beginning found them: word of what changed since is heard, or was already. */
  join(session: Session, begun: BegunPresence, send: (message: PresenceMessage) => void): PresenceSession
  /** Renews the leases of this node, and compares what its sessions were told with all leases. */
  compare(): Promise<void>
}

interface Watcher {
  readonly lease: Lease
  readonly others: readonly SeenDevice[]
  /** Undefined until the snapshot was sent. */
  picture: Picture | undefined
  readonly early: EarlyNews<PresenceAnnouncement>
  send(message: PresenceMessage): void
}

/** The answer of the leases, and when it was asked for. */
interface Found {
  readonly askedAtMs: number
  readonly isKnown: boolean
  numberOf(key: string): number | undefined
}

export function createPresence(parts: PresenceParts): Presence {
  const { leases, now, onFailure } = parts
  const watchers = new Set<Watcher>()

  const watchersByDevice = new Map<string, Set<Watcher>>()

  const add = (watcher: Watcher): void => {
    const key = leaseKey(watcher.lease)
    const ofDevice = watchersByDevice.get(key)
    if (ofDevice === undefined) watchersByDevice.set(key, new Set([watcher]))
    else ofDevice.add(watcher)
    watchers.add(watcher)
  }

  const remove = (watcher: Watcher): void => {
    const key = leaseKey(watcher.lease)
    const ofDevice = watchersByDevice.get(key)
    ofDevice?.delete(watcher)
    if (ofDevice?.size === 0) watchersByDevice.delete(key)
    watchers.delete(watcher)
  }

  /** The sessions of this node are known without asking: the number of the device's newest one. */
  const ownNumber = (key: string): number | undefined => {
    const ofDevice = watchersByDevice.get(key)
    return ofDevice && Math.max(...[...ofDevice].map(({ lease }) => lease.sessionNumber))
  }

  const tellSnapshot = async (watcher: Watcher): Promise<void> => {
    const { others, lease } = watcher
    const { userId } = lease
    const numbers = await leases.read(others.map(({ deviceId }) => ({ userId, deviceId })))
    if (!watchers.has(watcher) || watcher.picture !== undefined) return
    const picture = createPicture()
    const atMs = now()
    for (const [i, { deviceId: bytes, lastSeenAtMs }] of others.entries()) {
      const deviceId = toDeviceId(bytes)
      const number = ownNumber(leaseKey({ userId, deviceId: bytes })) ?? numbers?.[i]
      if (deviceId === undefined) continue
      const isOnline = number !== undefined
      picture.set({ deviceId, isOnline, sessionNumber: number ?? 0, lastSeenAtMs, confirmedAtMs: atMs })
    }
    for (const announcement of watcher.early.take()) picture.apply(announcement, atMs)
    watcher.picture = picture
    watcher.send(toPresenceMessage(true, picture.devices.values()))
  }

  const compareOne = (watcher: Watcher, found: Found, expired: Map<string, DevicePicture & DeviceKey>): void => {
    const { picture, lease } = watcher
    if (picture === undefined) return
    const atMs = now()
    const changes: DevicePicture[] = []
    for (const device of [...picture.devices.values()]) {
      const key = leaseKey({ userId: lease.userId, deviceId: device.deviceId })
      const number = found.numberOf(key)
      if (number !== undefined) {
        const next = { ...device, isOnline: true, sessionNumber: number, lastSeenAtMs: atMs, confirmedAtMs: atMs }
        picture.set(next)
        if (!device.isOnline) changes.push(next)
      } else if (device.isOnline && isOver(device, found, atMs)) {
        const next = { ...device, isOnline: false }
        picture.set(next)
        changes.push(next)
        expired.set(key, { ...next, userId: lease.userId })
      }
    }
    if (changes.length > 0) watcher.send(toPresenceMessage(false, changes))
  }

  const isOver = (device: DevicePicture, found: Found, atMs: number): boolean =>
    // Word that came after the leases were asked is newer than their answer.
    found.isKnown ? device.confirmedAtMs < found.askedAtMs : atMs - device.confirmedAtMs >= parts.staleAfterMs

  const compare = async (): Promise<void> => {
    await leases.hold([...watchers].map(({ lease }) => lease))
    const asked = new Map<string, DeviceKey>()
    for (const { picture, lease } of watchers) {
      for (const { deviceId } of picture?.devices.values() ?? []) {
        const device = { userId: lease.userId, deviceId }
        asked.set(leaseKey(device), device)
      }
    }
    const keys = [...asked.keys()]
    const askedAtMs = now()
    const numbers = await leases.read([...asked.values()])
    const held = new Map(keys.map((key, i) => [key, numbers?.[i]]))
    const expired = new Map<string, DevicePicture & DeviceKey>()
    const found = {
      numberOf: (key: string) => ownNumber(key) ?? held.get(key),
      isKnown: numbers !== undefined,
      askedAtMs,
    }
    for (const watcher of watchers) {
      if (watcher.picture === undefined) await tellSnapshot(watcher).catch(onFailure)
      else compareOne(watcher, found, expired)
    }
    for (const { userId, deviceId, confirmedAtMs } of expired.values()) {
      await parts.noteSeen(userId, deviceId, confirmedAtMs).catch(onFailure)
    }
  }

  return {
    compare,
    join: ({ userId, deviceId }, { number: sessionNumber, others }, send) => {
      const lease: Lease = { userId, deviceId, sessionNumber }
      const watcher: Watcher = { lease, others, picture: undefined, early: createEarlyNews(), send }
      const change = (isOnline: boolean): PresenceAnnouncement => ({
        type: 'presence',
        ...lease,
        isOnline,
        atMs: now(),
      })
      let starting: Promise<void> | undefined
      let isEnded = false
      const start = async (): Promise<void> => {
        // Asked one after the other without waiting between: the leases see the own one first, then look for others.
        const held = leases.hold([lease]).then(() => parts.announce(change(true)))
        await Promise.all([held, tellSnapshot(watcher)])
      }
      return {
        start: () => {
          add(watcher)
          starting = start().catch(onFailure)
        },
        hear: (announcement) => {
          if (isEnded || equalBytes(announcement.deviceId, deviceId)) return
          if (watcher.picture === undefined) return watcher.early.add(announcement)
          const changed = watcher.picture.apply(announcement, now())
          if (changed !== undefined) send(toPresenceMessage(false, [changed]))
        },
        end: async () => {
          isEnded = true
          remove(watcher)
          if (starting === undefined) return
          await starting
          if (!(await leases.release(lease))) return
          const offline = change(false)
          parts.announce(offline)
          await parts.noteSeen(userId, deviceId, offline.atMs)
        },
      }
    },
  }
}
