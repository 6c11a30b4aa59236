// The device's home folder, open for as long as a command works in it.

import { existsSync } from 'node:fs'
import { type NodeDevice, openNodeDevice, type RevokedDevice, SetupError } from '@valise/client/node'
import { printable } from './visible.ts'

/** For `init` and `link`: the folder is made when it is not there. */
export async function withNewHome<Result>(
  homeDir: string,
  work: (device: NodeDevice) => Promise<Result>,
): Promise<Result> {
  const device = await openNodeDevice(homeDir)
  try {
    return await work(device)
  } finally {
    await device.close()
  }
}

/** For all else: a mistyped folder is refused, not made. */
export async function withHome<Result>(
  homeDir: string,
  work: (device: NodeDevice) => Promise<Result>,
): Promise<Result> {
  const notSetUp = (): SetupError => new SetupError('not_set_up', `${homeDir} holds no device yet.`)
  if (!existsSync(homeDir)) throw notSetUp()
  return withNewHome(homeDir, async (device) => {
    if (device.account() === undefined) throw describeRevoked(await device.revoked()) ?? notSetUp()
    return work(device)
  })
}

function describeRevoked(revoked: RevokedDevice | undefined): SetupError | undefined {
  if (revoked === undefined) return undefined
  const { name, serverUrl, logSeq } = revoked
  return new SetupError(
    'revoked',
    `This device, "${printable(name)}" at ${printable(serverUrl)}, was revoked by entry ${logSeq} of the device log, and what it held is erased.`,
  )
}
