// Says that one device pushes the events of the others out of what the server keeps.

import type { Client } from '@valise/client'
import { formatDeviceFingerprint } from '@valise/client/node'
import { formatUuid } from '@valise/protocol'
import type { Output } from './output.ts'

/** Returns how to stop it. */
export const tellDisplaced = (client: Client, output: Output): (() => void) =>
  client.onStorageDisplaced(({ deviceId, bytes }) => {
    const fingerprint = formatDeviceFingerprint(deviceId)
    output.notice(
      'storage_displaced',
      `The device ${fingerprint} has pushed your other devices' events out of what the server keeps, ${bytes} bytes in a day. That is the limit, and the server makes it wait. If you did not do this, run \`valise revoke '${fingerprint.slice(0, 9)}'\`.`,
      { device_id: formatUuid(deviceId), bytes },
    )
  })
