// Who of the user's other devices is online, as the server says (PRE-2): a claim, not verified, and known only while a
// session is up. Listeners get the whole picture at each change.

import { type DeviceId, type Presence, toHex } from '@valise/protocol'
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
  /** The session is gone. */
  forget(): void
}

export function createPresenceView(onFailure: (error: unknown) => void): PresenceView {
  const listeners = createListeners<PresencePicture>(onFailure)
  let devices: ReadonlyMap<string, DevicePresence> | undefined
  const picture = (): PresencePicture => (devices === undefined ? undefined : [...devices.values()])

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
      const next = new Map(message.is_snapshot ? [] : devices)
      for (const { device_id: deviceId, is_online: isOnline, last_seen_at } of message.devices) {
        next.set(toHex(deviceId), { deviceId, isOnline, lastSeenAtMs: last_seen_at ?? undefined })
      }
      devices = next
      listeners.emit(picture())
    },
    forget: () => {
      if (devices === undefined) return
      devices = undefined
      listeners.emit(undefined)
    },
  }
}
