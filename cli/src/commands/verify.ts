// `valise verify`: checks again, without the server, all that this device holds: device log, epochs, chains, signatures.

import { EXIT } from '../failure.ts'
import { withHome } from '../home.ts'
import type { AddCommand } from '../invocation.ts'

export const addVerify: AddCommand = (program, run) => {
  program
    .command('verify')
    .description('check again, offline, everything that this device holds')
    .action(
      run(({ output, homeDir }) =>
        withHome(homeDir, async (device) => {
          const { isSound, problems, ...counts } = await device.verify()
          for (const { code, text } of problems) output.failure(code, `ALARM ${code}: ${text}`)
          const held = [
            `${counts.deviceLogEntries} device-log entries of ${counts.devices} devices`,
            `${counts.epochs} key epochs`,
            `${counts.events} received and ${counts.ownEvents} own events (${counts.expiredEvents} expired, ${counts.voidEvents} void) in ${counts.streams} streams`,
            `${counts.signatures} signatures`,
          ]
          const verdict = isSound ? 'Sound.' : `NOT SOUND: ${problems.length} problems, listed above.`
          output.result(`${verdict} Checked: ${held.join(', ')}.`, {
            sound: isSound,
            device_log_entries: counts.deviceLogEntries,
            devices: counts.devices,
            epochs: counts.epochs,
            events: counts.events,
            own_events: counts.ownEvents,
            expired_events: counts.expiredEvents,
            void_events: counts.voidEvents,
            signatures: counts.signatures,
            streams: counts.streams,
            problems,
          })
          return isSound ? EXIT.success : EXIT.alarm
        }),
      ),
    )
}
