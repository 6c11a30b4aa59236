// What a node does by the clock, whatever else goes on: compares with the log, and forgets old mailboxes
// and invitations.

export interface HousekeepingParts {
  /** Asked before each sweep. */
  sweepMs(): number
  sweep(): Promise<void>
  cleanMailboxes(): Promise<unknown>
  cleanInvitations(): Promise<unknown>
}

const MAILBOX_SWEEP_MS = 60_000
const INVITATION_SWEEP_MS = 3_600_000

/** Returns how to stop it. */
export function startHousekeeping(parts: HousekeepingParts): () => void {
  let sweepTimer: NodeJS.Timeout
  let isStopped = false
  const scheduleSweep = (): void => {
    if (isStopped) return
    sweepTimer = setTimeout(() => void parts.sweep().finally(scheduleSweep), parts.sweepMs())
    sweepTimer.unref()
  }
  scheduleSweep()
  const mailboxTimer = setInterval(() => void parts.cleanMailboxes(), MAILBOX_SWEEP_MS).unref()
  const invitationTimer = setInterval(() => void parts.cleanInvitations(), INVITATION_SWEEP_MS).unref()
  return () => {
    isStopped = true
    clearTimeout(sweepTimer)
    clearInterval(mailboxTimer)
    clearInterval(invitationTimer)
  }
}
