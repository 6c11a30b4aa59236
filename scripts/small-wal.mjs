// PostgreSQL whose write-ahead log lies on a small disk: what is moved there, and who starts it again after it has ended
// for want of room.
import { renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Nothing is kept that need not be, and PostgreSQL tries nothing again by itself: when it is away, it is away. */
export const smallWalSettings = { min_wal_size: '2MB', wal_recycle: 'off', restart_after_crash: 'off' }

// The disk lives as long as a program that sees it, so this shell stays when PostgreSQL ends.
const script = `
first=$1 small=$2 room=$3; shift 3
cp -a "$first/." "$small"
trap 'kill -QUIT "$server"; wait "$server"; exit' QUIT
while :; do
  "$@" & server=$!
  wait "$server"
  until [ -e "$room" ]; do sleep 0.1; done
  rm -f "$small/ballast"
done`

/** Of a new cluster at `data` that has not run yet: { program, makeRoom }, the program as the small disk's owner runs it. */
export function moveWalToSmallDisk({ command, args, data, folder, smallFolder }) {
  const first = join(folder, 'first-wal')
  const room = join(folder, 'room')
  renameSync(join(data, 'pg_wal'), first)
  symlinkSync(smallFolder, join(data, 'pg_wal'))
  return {
    program: { command: 'sh', args: ['-c', script, 'sh', first, smallFolder, room, command, ...args] },
    makeRoom: () => writeFileSync(room, ''),
  }
}
