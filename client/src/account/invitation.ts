// An invitation as its operator hands it out: hexadecimal digits, in groups or not, in small letters or large.

import { fromHex, INVITATION_BYTES } from '@valise/protocol'
import { SetupError } from './setup-error.ts'

/** Throws a `SetupError` for what is none. */
export function parseInvitation(text: string): Uint8Array {
  const bytes = fromHex(text.replace(/[\s-]/g, ''))
  if (bytes?.length === INVITATION_BYTES) return bytes
  throw new SetupError('bad_invitation', 'An invitation is eight groups of four digits, 0 to 9 and a to f.')
}

export const invitationRequired = (): SetupError =>
  new SetupError('invitation_required', 'This server takes new users by invitation only.')
