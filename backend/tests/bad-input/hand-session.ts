// An established session whose keys the test holds, so that it can seal what an honest channel never would.

import { createSessionChannel, decodeServerMessages, type ServerMessage, type SessionChannel } from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { deriveTrafficKeys } from '../../../protocol/src/handshake/key-schedule.ts'
import { createDirection, type Direction } from '../../../protocol/src/session/direction.ts'
import type { TestDevice } from '../support/account.ts'
import type { CloseFrame, RawSocket, SessionTarget } from '../support/raw-device.ts'
import { endOf, proveHandshake, within } from './handshake-steps.ts'

export interface HandSession {
  /** From client to server, before any rotation. Each call has a counter of its own that begins at 0. */
  direction(): Direction
  /** A frame with this plaintext, as the first of the session. */
  sealFirst(plaintext: Uint8Array): Uint8Array
  /** The honest client's channel, with `session_established` taken. */
  readonly channel: SessionChannel
  send(...frames: readonly Uint8Array[]): void
  /** Passes over application frames; resolves with the replies that complete the rotation. */
  nextRekey(): Promise<readonly Uint8Array[]>
  /** The next message that is not word of other devices. */
  nextAnswer(): Promise<ServerMessage>
  end(): Promise<CloseFrame>
  readonly raw: RawSocket
}

export async function openHandSession(target: SessionTarget, device: TestDevice): Promise<HandSession> {
  const { raw, finished } = await proveHandshake(target, device)
  const clientTraffic = finished.secrets.clientTraffic.slice()
  const frames: Uint8Array[] = []
  let wake: (() => void) | undefined
  raw.socket.on('message', (data: Buffer, isBinary: boolean) => {
    if (!isBinary) return
    frames.push(data)
    wake?.()
  })
  raw.socket.send(finished.authText)
  const text = await within('session_established', raw.nextText())
  const channel = createSessionChannel({ crypto: nodeCrypto, role: 'client', secrets: finished.secrets })
  if (channel.receive(Buffer.from(JSON.parse(text).frame, 'base64url')).type !== 'application') {
    throw new Error('session_established does not open')
  }
  const takeFrame = async (): Promise<Uint8Array> => {
    for (;;) {
      const frame = frames.shift()
      if (frame !== undefined) return frame
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
  }
  const takeRekey = async (): Promise<readonly Uint8Array[]> => {
    for (;;) {
      const received = channel.receive(await takeFrame())
      if (received.type === 'rekey') return received.replies
      if (received.type !== 'application') throw new Error(`no rotation but ${received.type}`)
    }
  }
  const takeAnswer = async (): Promise<ServerMessage> => {
    for (;;) {
      const received = channel.receive(await takeFrame())
      const decoded = received.type === 'application' ? decodeServerMessages(received.payload) : undefined
      if (decoded?.ok !== true) throw new Error(`no message but ${received.type}`)
      const answer = decoded.messages.find(({ type }) => type !== 'presence')
      if (answer !== undefined) return answer
    }
  }
  return {
    direction: () => createDirection(nodeCrypto, clientTraffic.slice()),
    sealFirst: (plaintext) => {
      const { aead, iv } = deriveTrafficKeys(nodeCrypto, clientTraffic)
      const header = Uint8Array.of(1, 0)
      return Buffer.concat([header, aead.seal(iv, header, plaintext)])
    },
    channel,
    send: (...sent) => {
      for (const frame of sent) raw.socket.send(frame)
    },
    nextRekey: () => within('a rotation', takeRekey()),
    nextAnswer: () => within('an answer', takeAnswer()),
    end: () => endOf(raw),
    raw,
  }
}
