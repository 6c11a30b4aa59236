// Every message a server may send.

import { z } from 'zod'
import { caughtUp } from './caught-up.ts'
import { deviceLog } from './device-log.ts'
import { deviceLogAppended } from './device-log-appended.ts'
import { draining } from './draining.ts'
import { envelopes } from './envelopes.ts'
import { error } from './error.ts'
import { events } from './events.ts'
import { pairingOpened } from './pairing-opened.ts'
import { ping, pong } from './ping-pong.ts'
import { presence } from './presence.ts'
import { receipts } from './receipts.ts'
import { refused } from './refused.ts'
import { registered } from './registered.ts'
import { resyncRequired } from './resync-required.ts'
import { sessionEstablished } from './session-established.ts'
import { sessionExpiring } from './session-expiring.ts'
import { storageNotice } from './storage-notice.ts'
import { unavailable } from './unavailable.ts'

export const serverMessage = z.discriminatedUnion('type', [
  sessionEstablished,
  registered,
  receipts,
  refused,
  events,
  caughtUp,
  resyncRequired,
  deviceLog,
  envelopes,
  deviceLogAppended,
  pairingOpened,
  error,
  unavailable,
  sessionExpiring,
  draining,
  presence,
  storageNotice,
  ping,
  pong,
])
export type ServerMessage = z.infer<typeof serverMessage>
