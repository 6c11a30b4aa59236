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
            `${count(counts.deviceLogEntries, 'device-log entry', 'device-log entries')} of ${count(counts.devices, 'device')} (a recovery phrase counts as one)`,
            count(counts.epochs, 'key epoch'),
            `${counts.events} received and ${counts.ownEvents} own events (${counts.expiredEvents} expired, ${counts.voidEvents} void) in ${count(counts.streams, 'stream')}`,
            count(counts.signatures, 'signature'),
          ]
          const verdict = isSound ? 'Sound.' : `NOT SOUND: ${count(problems.length, 'problem')}, listed above.`
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

const count = (number: number, one: string, many = `${one}s`): string => `${number} ${number === 1 ? one : many}`
