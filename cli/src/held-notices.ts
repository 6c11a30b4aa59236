// Says that a device is held back, why, and what follows; and that what was held back counts after all.

import type { Client, HoldChange } from '@valise/client'
import { formatDeviceFingerprint } from '@valise/client/node'
import { formatUuid } from '@valise/protocol'
import type { Output } from './output.ts'

const WHY = {
  signature: 'signed an event wrongly',
  unopenable: 'published an event that does not open under the key it names',
  unparsable: 'published an event whose content cannot be read',
  kept_mismatch: 'published an event with a false mark',
  unproved: 'has a newest event whose signature is wrong; either the device or the server did that',
  unjudged: 'had a newest event whose signature was wrong',
  no_key: 'uses a key that this device has not received yet',
  newer_content: 'sends content of a newer version; update this program to read it',
} as const

const FAULTS: ReadonlySet<string> = new Set(['signature', 'unopenable', 'unparsable', 'kept_mismatch'])

function describe(change: HoldChange): string {
  if (change.type === 'released') {
    const count = change.events.length
    return `${count === 1 ? 'An event' : `${count} events`} of ${formatDeviceFingerprint(change.deviceId)} that ${count === 1 ? 'was' : 'were'} held back can be read now; \`valise watch STREAM --from start\` shows ${count === 1 ? 'it' : 'them'}.`
  }
  const { deviceId, kind, fromSeq } = change.hold
  const what = `The device ${formatDeviceFingerprint(deviceId)} ${WHY[kind]}. What it sent from its event ${fromSeq} on is held back; everything else goes on.`
  if (!FAULTS.has(kind)) return what
  return `${what} Your managers suspend it by themselves. If you did not do this, it is in other hands: run \`valise revoke '${formatDeviceFingerprint(deviceId).slice(0, 9)}'\`.`
}

/** Returns how to stop it. */
export const tellHeld = (client: Client, output: Output): (() => void) =>
  client.onHeld((change) => {
    const deviceId = change.type === 'held' ? change.hold.deviceId : change.deviceId
    output.notice(change.type === 'held' ? 'device_held' : 'events_released', describe(change), {
      device_id: formatUuid(deviceId),
      ...(change.type === 'held'
        ? { kind: change.hold.kind, from_device_seq: change.hold.fromSeq }
        : { user_seqs: change.events.map(({ userSeq }) => userSeq) }),
    })
  })
