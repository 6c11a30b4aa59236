// The account of this home as machines read it.

import type { Account } from '@valise/client/node'
import { formatUuid, toBase64Url, toHex } from '@valise/protocol'
import type { JsonFields } from './output.ts'

export function describeAccount(account: Account, homeDir: string): JsonFields {
  return {
    user_id: toHex(account.userId),
    device_id: formatUuid(account.deviceId),
    name: account.name,
    role: account.role,
    device_fingerprint: account.deviceFingerprint,
    server: account.serverUrl,
    server_fingerprint: toBase64Url(account.serverFingerprint),
    server_next_fingerprint:
      account.serverNextFingerprint === undefined ? null : toBase64Url(account.serverNextFingerprint),
    home: homeDir,
  }
}
