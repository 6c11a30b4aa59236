// Who of the user's other devices is online, as the server says (PRE-2): a claim, not verified, and known only while a
// session is up. Listeners get the whole picture at each change.

import { type DeviceId, MAX_ACTIVE_DEVICES, type Presence, toHex } from '@valise/protocol'
import { createListeners } from './signal.ts'

export interface DevicePresence {
  readonly deviceId: DeviceId
  readonly isOnline: boolean
  /** Unix milliseconds by the server's clock; undefined when it was never seen. */
  readonly lastSeenAtMs: number | undefined
}

/** Of all other devices; undefined while no session says. */
export type PresencePicture = readonly DevicePresence[] | undefined

export interface PresenceView {
  readonly picture: PresencePicture
  /** Calls with the present picture at once, then at each change. Returns the function that removes the listener. */
  add(listener: (picture: PresencePicture) => void): () => void
  apply(message: Presence): void
  /** Devices may have been added or revoked. */
  deviceLogGrew(): void
  /** The session is gone. */
  forget(): void
}

/** Devices that the server may tell of before this device has read the entry that adds them. */
const MAX_UNKNOWN = MAX_ACTIVE_DEVICES

/** Only devices of which `isKnown` says so, by the verified device log, are in the picture. */
export function createPresenceView(
  onFailure: (error: unknown) => void,
  isKnown: (deviceId: DeviceId) => boolean,
): PresenceView {
  const listeners = createListeners<PresencePicture>(onFailure)
  let devices: Map<string, DevicePresence> | undefined
  const picture = (): PresencePicture =>
    devices === undefined ? undefined : [...devices.values()].filter(({ deviceId }) => isKnown(deviceId))

  /** The first of them stay, so that a server cannot push out what it said of a device that is about to be known. */
  const dropUnknown = (told: Map<string, DevicePresence>): void => {
    let unknown = 0
    for (const [hex, { deviceId }] of told) {
      if (isKnown(deviceId)) continue
      unknown += 1
      if (unknown > MAX_UNKNOWN) told.delete(hex)
    }
  }

  return {
    get picture() {
      return picture()
    },
    add: (listener) => {
      const remove = listeners.add(listener)
      try {
        listener(picture())
      } catch (error) {
        onFailure(error)
      }
      return remove
    },
    apply: (message) => {
      // A change before the first snapshot says nothing of the devices it leaves out.
      if (!message.is_snapshot && devices === undefined) return
      const next = message.is_snapshot || devices === undefined ? new Map<string, DevicePresence>() : devices
      for (const { device_id: deviceId, is_online: isOnline, last_seen_at } of message.devices) {
        next.set(toHex(deviceId), { deviceId, isOnline, lastSeenAtMs: last_seen_at ?? undefined })
      }
      dropUnknown(next)
      devices = next
      if (message.is_snapshot || message.devices.some(({ device_id }) => isKnown(device_id))) listeners.emit(picture())
    },
    deviceLogGrew: () => {
      if (devices !== undefined) listeners.emit(picture())
    },
    forget: () => {
      if (devices === undefined) return
      devices = undefined
      listeners.emit(undefined)
    },
  }
}
