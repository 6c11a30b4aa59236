// What a device says of itself to the user's other devices: its name and platform, as an event that the server cannot
// read (DEV-4).

import { toHex } from '@valise/protocol'
import { decode, encode } from 'cborg'
import { z } from 'zod'
import type { EventReader } from '../event-reader.ts'
import { MAX_DEVICE_NAME_LENGTH, MAX_PLATFORM_LENGTH } from './identity.ts'

export const PROFILE_STREAM = 'valise/devices'
export const PROFILE_TYPE = 'valise/device'

const profile = z.strictObject({
  name: z.string().max(MAX_DEVICE_NAME_LENGTH),
  platform: z.string().max(MAX_PLATFORM_LENGTH),
})
export type DeviceProfile = z.infer<typeof profile>

export const encodeProfile = ({ name, platform }: DeviceProfile): Uint8Array => encode({ name, platform })

function parseProfile(body: Uint8Array): DeviceProfile | undefined {
  try {
    return profile.safeParse(decode(body)).data
  } catch {
    return undefined
  }
}

/** The newest profile of each device that published one, by device id in hexadecimal. */
export async function readProfiles(reader: EventReader): Promise<Map<string, DeviceProfile>> {
  const profileByDevice = new Map<string, DeviceProfile>()
  for await (const event of reader.stored(PROFILE_STREAM)) {
    const parsed = event.content.type === PROFILE_TYPE ? parseProfile(event.content.body) : undefined
    if (parsed !== undefined) profileByDevice.set(toHex(event.deviceId), parsed)
  }
  return profileByDevice
}
