// Tells of every device that another one let into the account, once, whichever command is the first to hear of it.

import type { Client } from '@valise/client'
import { formatUuid } from '@valise/protocol'
import type { Output } from './output.ts'

/** Returns how to stop it. */
export const tellAddedDevices = (client: Client, output: Output): (() => void) =>
  client.onDeviceAdded(({ deviceId, role, addedSeq, deviceFingerprint }) =>
    output.notice(
      'device_added',
      `A device was added to your account: ${deviceFingerprint} (${role}). It reads everything. If none of you did that, one of your devices is in other hands; \`valise devices\` lists them.`,
      { device_id: formatUuid(deviceId), role, added_seq: addedSeq, device_fingerprint: deviceFingerprint },
    ),
  )
