// The transport port over the `ws` package. Frames above `maxFrameBytes` and compressed ones are refused.

import type { Agent } from 'node:http'
import WebSocket from 'ws'
import { ConnectError, type ConnectProblem } from '../connect-problem.ts'
import type { Connection, Transport, TransportHandlers } from '../transport.ts'
import { findConnectProblem } from './find-connect-problem.ts'
import { nodeHttp } from './node-http.ts'
import { proxyAgentFor } from './proxy.ts'

/** Answers of a server that is no WebSocket end in 1006 like every lost connection. */
export function createWsTransport({ maxFrameBytes }: { maxFrameBytes: number }): Transport {
  return {
    http: nodeHttp,
    connect: (url, { onOpen, onMessage, onClose }) => {
      const agent = tryProxyAgentFor(url)
      if (agent instanceof ConnectError) return createUnopened(agent.problem, onClose)
      const socket = new WebSocket(url, {
        maxPayload: maxFrameBytes,
        perMessageDeflate: false,
        ...(agent && { agent }),
      })
      socket.binaryType = 'nodebuffer'
      socket.on('open', onOpen)
      socket.on('message', (data, isBinary) => {
        const bytes = toBytes(data)
        onMessage(isBinary ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length) : bytes.toString('utf8'))
      })
      // A `close` follows every error.
      let problem: ConnectProblem | undefined
      socket.on('error', (error) => {
        problem ??= findConnectProblem(error, { isProxied: agent !== undefined })
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

function tryProxyAgentFor(url: string): Agent | ConnectError | undefined {
  try {
    return proxyAgentFor(url)
  } catch (error) {
    if (error instanceof ConnectError) return error
    throw error
  }
}

/** A connection that ends before it begins. */
function createUnopened(problem: ConnectProblem, onClose: TransportHandlers['onClose']): Connection {
  queueMicrotask(() => onClose(1006, '', problem))
  return { send: () => {}, close: () => {}, bufferedAmount: 0 }
}

function toBytes(data: WebSocket.RawData): Buffer {
  if (Buffer.isBuffer(data)) return data
  return Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data)
}
