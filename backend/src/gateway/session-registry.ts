// The sessions of this node by device. The database numbers the sessions of a device, so every node orders them alike:
// the one with the higher number stays, in whatever order beginnings, ends and announcements arrive (SES-3). The end of
// one session never touches another.

import type { Session } from './session.ts'

export interface NumberedSession extends Pick<Session, 'userId' | 'deviceId'> {
  readonly number: number
}

export type SessionEndCode = 'session_superseded' | 'device_revoked' | 'account_deleted' | 'server_draining'

export interface SessionOpening {
  /**
   * The session has its number: it supersedes an older one here before anything is counted. False when a newer one
   * began meanwhile, here or elsewhere, and this one has to end.
   */
  begin(number: number, close: (code: SessionEndCode) => void): boolean
  /** The session as `sessions()` has it, from the moment it began. */
  readonly begun: NumberedSession | undefined
  /** Once, whether it began or not. */
  end(): void
}

export interface SessionRegistry {
  /** Before the number is asked for: word of newer sessions is kept from here on. */
  open(session: Session): SessionOpening
  /** A session of the device with this number began somewhere: earlier ones here end. */
  supersedeOlder(deviceKey: string, number: number): void
  /** The device may have no session any more, or has to begin another: the one here ends. */
  end(deviceKey: string, code: Exclude<SessionEndCode, 'session_superseded'>): void
  /** Those that have begun and not ended. */
  sessions(): NumberedSession[]
  readonly count: number
}

interface Begun extends NumberedSession {
  close(code: SessionEndCode): void
}

interface DeviceSlot {
  /** Sessions that are opening or have begun. */
  references: number
  /** The highest number heard of. */
  newest: number
  begun: Begun | undefined
}

export function createSessionRegistry(): SessionRegistry {
  const slotByDevice = new Map<string, DeviceSlot>()
  let count = 0

  const open = ({ deviceKey, userId, deviceId }: Session): SessionOpening => {
    const slot = slotByDevice.get(deviceKey) ?? { references: 0, newest: 0, begun: undefined }
    slotByDevice.set(deviceKey, slot)
    slot.references++
    let own: Begun | undefined
    let isEnded = false
    return {
      begin: (number, close) => {
        if (number < slot.newest) return false
        const older = slot.begun
        slot.newest = number
        own = { userId, deviceId, number, close }
        slot.begun = own
        if (older === undefined) count++
        older?.close('session_superseded')
        return true
      },
      get begun() {
        return own
      },
      end: () => {
        if (isEnded) return
        isEnded = true
        if (own !== undefined && slot.begun === own) {
          slot.begun = undefined
          count--
        }
        if (--slot.references === 0) slotByDevice.delete(deviceKey)
      },
    }
  }

  return {
    open,
    supersedeOlder: (deviceKey, number) => {
      const slot = slotByDevice.get(deviceKey)
      if (slot === undefined || number <= slot.newest) return
      slot.newest = number
      slot.begun?.close('session_superseded')
    },
    end: (deviceKey, code) => slotByDevice.get(deviceKey)?.begun?.close(code),
    sessions: () => [...slotByDevice.values()].flatMap(({ begun }) => begun ?? []),
    get count() {
      return count
    },
  }
}
