// The transport port over the `ws` package. Frames above `maxFrameBytes` and compressed ones are refused.

import WebSocket from 'ws'
import type { ConnectProblem } from '../connect-problem.ts'
import type { Transport } from '../transport.ts'
import { fetchHttp } from './fetch-http.ts'
import { findConnectProblem } from './find-connect-problem.ts'

/** Answers of a server that is no WebSocket end in 1006 like every lost connection. */
export function createWsTransport({ maxFrameBytes }: { maxFrameBytes: number }): Transport {
  return {
    http: fetchHttp,
    connect: (url, { onOpen, onMessage, onClose }) => {
      const socket = new WebSocket(url, { maxPayload: maxFrameBytes, perMessageDeflate: false })
      socket.binaryType = 'nodebuffer'
      socket.on('open', onOpen)
      socket.on('message', (data, isBinary) => {
        const bytes = toBytes(data)
        onMessage(isBinary ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length) : bytes.toString('utf8'))
      })
      // A `close` follows every error.
      let problem: ConnectProblem | undefined
      socket.on('error', (error) => {
        problem ??= findConnectProblem(error)
      })
      socket.on('close', (code, reason) => onClose(code, reason.toString('utf8'), problem))
      return {
        send: (data) => {
          if (socket.readyState === WebSocket.OPEN) socket.send(data)
        },
        close: (code, reason) => {
          if (socket.readyState === WebSocket.CONNECTING) socket.terminate()
          else socket.close(code, reason)
        },
        get bufferedAmount() {
          return socket.bufferedAmount
        },
        pause: () => socket.pause(),
        resume: () => socket.resume(),
      }
    },
  }
}

function toBytes(data: WebSocket.RawData): Buffer {
  if (Buffer.isBuffer(data)) return data
  return Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data)
}
