// What a node does by the clock, whatever else goes on: compares with the log, forgets old mailboxes and invitations, and
// ends accounts whose close has waited long enough.

export interface HousekeepingParts {
  /** From the end of a sweep to the next. Asked all the while: what is waited for may become urgent. */
  sweepMs(): number
  sweep(): Promise<void>
  cleanMailboxes(): Promise<unknown>
  cleanInvitations(): Promise<unknown>
  closeAccounts(): Promise<unknown>
  readonly timer?: HousekeepingTimer
}

export interface HousekeepingTimer {
  /** Milliseconds of a clock that never goes back. */
  now(): number
  /** Calls the task again and again; returns how to stop it. */
  every(ms: number, task: () => void): () => void
}

/** How soon it is noticed that a sweep has become due. */
const LOOK_MS = 50
const MAILBOX_SWEEP_MS = 60_000
const INVITATION_SWEEP_MS = 3_600_000
/** A close waits seven days; nobody minds a minute more. */
const CLOSE_SWEEP_MS = 60_000

const systemTimer: HousekeepingTimer = {
  now: () => performance.now(),
  every: (ms, task) => {
    const interval = setInterval(task, ms).unref()
    return () => clearInterval(interval)
  },
}

/** Returns how to stop it. */
export function startHousekeeping(parts: HousekeepingParts): () => void {
  const timer = parts.timer ?? systemTimer
  let sweptAtMs = timer.now()
  let isSweeping = false
  const look = (): void => {
    if (isSweeping || timer.now() - sweptAtMs < parts.sweepMs()) return
    isSweeping = true
    void parts.sweep().finally(() => {
      isSweeping = false
      sweptAtMs = timer.now()
    })
  }
  const stops = [
    timer.every(LOOK_MS, look),
    timer.every(MAILBOX_SWEEP_MS, () => void parts.cleanMailboxes()),
    timer.every(INVITATION_SWEEP_MS, () => void parts.cleanInvitations()),
    timer.every(CLOSE_SWEEP_MS, () => void parts.closeAccounts()),
  ]
  return () => {
    for (const stop of stops) stop()
  }
}
