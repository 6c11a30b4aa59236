// A device's part in a rotation of the session keys, step by step, so that a test can stop it or end it at each.

import type { ReceivedFrame, SessionChannel } from '@valise/protocol'
import type { WebSocket } from 'ws'

/** Where a rotation in band stands on the device's side. */
export type RekeyStep =
  /** The server asks; nothing is sent yet. */
  | 'hint_received'
  | 'init_sent'
  /** The server has its new keys; the device has not said that it has. */
  | 'response_received'
  | 'done_sent'

/** Called at each step; false: the device does nothing more for this rotation. */
export type OnRekeyStep = (step: RekeyStep, socket: WebSocket) => boolean

export function answerRekey(
  received: ReceivedFrame,
  channel: SessionChannel,
  socket: WebSocket,
  onStep: OnRekeyStep = () => true,
): void {
  if (received.type === 'rekey_hint' && !channel.isRekeying() && onStep('hint_received', socket)) {
    socket.send(channel.startRekey())
    onStep('init_sent', socket)
  }
  if (received.type === 'rekey' && onStep('response_received', socket)) {
    for (const reply of received.replies) socket.send(reply)
    onStep('done_sent', socket)
  }
}
