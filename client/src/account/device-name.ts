// What a device may be called: short, and safe to show.

import { MAX_DEVICE_NAME_LENGTH } from './identity.ts'
import { SetupError } from './setup-error.ts'

/** Throws a `SetupError` for what is no name. */
export function checkDeviceName(name: string): string {
  if (name.length > 0 && name.length <= MAX_DEVICE_NAME_LENGTH && !/\p{C}/u.test(name)) return name
  throw new SetupError('bad_name', `A device's name has 1 to ${MAX_DEVICE_NAME_LENGTH} visible characters.`)
}
