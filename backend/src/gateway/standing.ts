// Whether the device of a session is suspended (DEV-13). Read when the session begins, and again with each word of the device
// log. A suspension is for ever, so what is known stays true.

export interface Standing {
  isSuspended(): boolean
  /** Looks into the database, unless it is known already. */
  refresh(): Promise<void>
}

export function createStanding(isSuspendedAtFirst: boolean, readIsSuspended: () => Promise<boolean>): Standing {
  let isSuspended = isSuspendedAtFirst
  return {
    isSuspended: () => isSuspended,
    refresh: async () => {
      if (!isSuspended) isSuspended = await readIsSuspended()
    },
  }
}
