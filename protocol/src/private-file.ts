// Whether a file or folder keeps a secret from the other users of a machine (OPS-2). A pure decision over what the file
// system says, the same for the server's keys and a device's home; its callers look, and refuse.

/** What `stat` says. */
export interface FileFacts {
  readonly uid: number
  readonly mode: number
}

/** `folder` holds the secret itself; `parent` is the folder that a secret file stands in. */
export type PrivateKind = 'file' | 'folder' | 'parent'

/** In words fit to show: what is wrong, and the command that mends it. */
export interface PrivateFault {
  readonly problem: string
  readonly remedy: string
}

const FOR_OTHERS = 0o077
const WRITABLE_BY_OTHERS = 0o022
/** Only its owner replaces a file in such a folder. */
const STICKY = 0o1000
const ROOT = 0

/** `me` is the user id of this process; undefined where the system has none, and then nothing can be said. */
export function judgePrivate(
  path: string,
  kind: PrivateKind,
  { uid, mode }: FileFacts,
  me: number | undefined,
): PrivateFault | undefined {
  if (me === undefined) return undefined
  if (uid !== me && uid !== ROOT) {
    const problem = `${path} belongs to another user (uid ${uid}), who can replace what it holds`
    return { problem, remedy: `run this as its owner, or: chown ${me} ${path}` }
  }
  const shown = (mode & 0o777).toString(8)
  if (kind === 'parent') {
    const isReplaceable = (mode & WRITABLE_BY_OTHERS) !== 0 && (mode & STICKY) === 0
    return isReplaceable
      ? { problem: `other users can replace the files in ${path} (mode ${shown})`, remedy: `chmod go-w ${path}` }
      : undefined
  }
  if ((mode & FOR_OTHERS) === 0) return undefined
  const remedy = `chmod ${kind === 'file' ? '600' : '700'} ${path}`
  return { problem: `${path} is open to other users of this machine (mode ${shown})`, remedy }
}
