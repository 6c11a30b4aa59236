// A disk of few bytes for one program: a tmpfs that this program and its children alone see, and that goes with them,
// however they end.
import { capture, foldersOnPathWith } from './command.mjs'
import { isRoot } from './provision.mjs'

const mountThen = (start) => `mount -t tmpfs -o "$1" small "$2" && shift 2 && exec ${start} "$@"`

/** As root: a mount in a namespace of its own, then the other user. */
function mountAsRoot({ identity, options, folder, program }) {
  const { uid, gid } = identity
  const script = mountThen(`setpriv --reuid=${uid} --regid=${gid} --clear-groups`)
  return {
    command: 'unshare',
    args: ['-m', 'sh', '-c', script, 'sh', `${options},uid=${uid},gid=${gid}`, folder, ...program],
  }
}

/** As anybody: root of a user namespace, and in another one inside it somebody else, since PostgreSQL is not run by root. */
function mountAsUser({ identity, options, folder, program }) {
  const script = mountThen('unshare -U --map-user=1000 --map-group=1000')
  return {
    command: 'unshare',
    args: ['-U', '-r', '-m', 'sh', '-c', script, 'sh', options, folder, ...program],
    ...identity,
  }
}

/**
 * How to start a program so that it finds a disk of `bytes` at `folder`, which stands there empty: { command, args } and
 * uid and gid when root has to become somebody else first. Throws when the machine lets neither root nor anybody mount.
 */
export function onSmallDisk({ folder, bytes, identity, command, args }) {
  const options = `size=${bytes},mode=700`
  const ways = isRoot ? [mountAsRoot, mountAsUser] : [mountAsUser]
  const tried = []
  for (const way of ways) {
    const probe = way({ identity, options, folder, program: ['true'] })
    const { exitCode, output } = capture(probe.command, probe.args, { cwd: folder, uid: probe.uid, gid: probe.gid })
    if (exitCode === 0) return way({ identity, options, folder, program: [command, ...args] })
    tried.push(`  ${way === mountAsRoot ? 'as root' : 'in a user namespace'}: ${output.trim()}`)
  }
  const missing = foldersOnPathWith('unshare').length === 0 ? ' There is no program unshare (util-linux) on PATH.' : ''
  throw new Error(
    `no small disk for a test.${missing} Needed is Linux, and either root that may mount (CAP_SYS_ADMIN) or user ` +
      `namespaces for everybody (sysctl kernel.unprivileged_userns_clone=1). Tried:\n${tried.join('\n')}`,
  )
}
