// What one session has been told of its user's other devices, and what of news is a change. A newer session outweighs
// an older one, and the end of a session its beginning, so announcements may come late, twice or in any order. Pure.

import { type DeviceId, type Presence, toDeviceId, toHex } from '@valise/protocol'

export interface DevicePicture {
  readonly deviceId: DeviceId
  readonly isOnline: boolean
  /** The newest session heard of; 0 before any. */
  readonly sessionNumber: number
  /** Unix milliseconds; undefined when never seen. */
  readonly lastSeenAtMs: number | undefined
  /** When word of it came last, by the clock of this node. */
  readonly confirmedAtMs: number
}

export interface PresenceNews {
  readonly deviceId: Uint8Array
  readonly sessionNumber: number
  readonly isOnline: boolean
  readonly atMs: number
}

/** Devices that a picture has at most: far more than a user may have. */
const MAX_DEVICES = 500

/** Words heard before there is a picture: of each device the one that outweighs the others. */
export interface EarlyNews<News extends PresenceNews> {
  add(news: News): void
  /** Each once: it is forgotten here. */
  take(): News[]
}

export function createEarlyNews<News extends PresenceNews>(): EarlyNews<News> {
  const newsByDevice = new Map<string, News>()
  return {
    add: (news) => {
      const key = toHex(news.deviceId)
      const known = newsByDevice.get(key)
      if (known === undefined ? newsByDevice.size >= MAX_DEVICES : !outweighs(news, known)) return
      newsByDevice.set(key, news)
    },
    take: () => {
      const taken = [...newsByDevice.values()]
      newsByDevice.clear()
      return taken
    },
  }
}

const outweighs = (news: PresenceNews, known: PresenceNews): boolean =>
  news.sessionNumber === known.sessionNumber ? !news.isOnline : news.sessionNumber > known.sessionNumber

export interface Picture {
  readonly devices: ReadonlyMap<string, DevicePicture>
  /** Puts a device into the picture, whatever stood there. */
  set(device: DevicePicture): void
  /** What changed, or undefined. */
  apply(news: PresenceNews, nowMs: number): DevicePicture | undefined
}

export function createPicture(): Picture {
  const devices = new Map<string, DevicePicture>()
  return {
    devices,
    set: (device) => {
      devices.set(toHex(device.deviceId), device)
    },
    apply: ({ deviceId: bytes, sessionNumber, isOnline, atMs }, nowMs) => {
      const key = toHex(bytes)
      const known = devices.get(key)
      const deviceId = known?.deviceId ?? toDeviceId(bytes)
      if (deviceId === undefined) return undefined
      if (known === undefined && devices.size >= MAX_DEVICES) return undefined
      const knownNumber = known?.sessionNumber ?? 0
      if (sessionNumber < knownNumber) return undefined
      if (sessionNumber === knownNumber && isOnline && known?.isOnline === false && sessionNumber > 0) return undefined
      const lastSeenAtMs = Math.max(known?.lastSeenAtMs ?? 0, atMs)
      const next: DevicePicture = { deviceId, isOnline, sessionNumber, lastSeenAtMs, confirmedAtMs: nowMs }
      devices.set(key, next)
      return known?.isOnline === isOnline ? undefined : next
    },
  }
}

export const toPresenceMessage = (isSnapshot: boolean, devices: Iterable<DevicePicture>): Presence => ({
  type: 'presence',
  is_snapshot: isSnapshot,
  devices: [...devices].map(({ deviceId, isOnline, lastSeenAtMs }) => ({
    device_id: deviceId,
    is_online: isOnline,
    last_seen_at: lastSeenAtMs ?? null,
  })),
})
