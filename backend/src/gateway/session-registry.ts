// The sessions of this node by device. A newer session of a device supersedes the older one before anything is counted,
// and the older one's end never touches the newer (SES-3).

import { equalBytes } from '@valise/protocol'
import type { Session } from './session.ts'

export interface RegisteredSession {
  readonly session: Session
  supersede(): void
}

export interface SessionRegistry {
  /** Supersedes the device's session on this node, if there is one. Call the result when the session ends. */
  add(registered: RegisteredSession): () => void
  /** A newer session of the device began on another node. */
  supersedeOthers(deviceKey: string, sessionId: Uint8Array): void
  readonly count: number
}

export function createSessionRegistry(): SessionRegistry {
  const registeredByDevice = new Map<string, RegisteredSession>()
  return {
    add: (registered) => {
      const { deviceKey } = registered.session
      const older = registeredByDevice.get(deviceKey)
      registeredByDevice.set(deviceKey, registered)
      older?.supersede()
      return () => {
        if (registeredByDevice.get(deviceKey) === registered) registeredByDevice.delete(deviceKey)
      }
    },
    supersedeOthers: (deviceKey, sessionId) => {
      const registered = registeredByDevice.get(deviceKey)
      if (registered !== undefined && !equalBytes(registered.session.sessionId, sessionId)) registered.supersede()
    },
    get count() {
      return registeredByDevice.size
    },
  }
}
