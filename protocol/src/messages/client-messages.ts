// Every message a client may send.

import { z } from 'zod'
import { ack } from './ack.ts'
import { appendDeviceLog } from './append-device-log.ts'
import { fetchDeviceLog } from './fetch-device-log.ts'
import { fetchEnvelopes } from './fetch-envelopes.ts'
import { openPairing } from './open-pairing.ts'
import { ping, pong } from './ping-pong.ts'
import { publish } from './publish.ts'
import { register } from './register.ts'
import { resume } from './resume.ts'

export const clientMessage = z.discriminatedUnion('type', [
  register,
  resume,
  publish,
  ack,
  appendDeviceLog,
  fetchDeviceLog,
  fetchEnvelopes,
  openPairing,
  ping,
  pong,
])
export type ClientMessage = z.infer<typeof clientMessage>
