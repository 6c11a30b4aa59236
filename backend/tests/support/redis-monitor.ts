// What Redis itself shows of every command it gets (MONITOR): the arguments of each, as bytes.

import { once } from 'node:events'
import { connect } from 'node:net'

export interface RedisMonitor {
  /** So far, of all connections to this Redis. */
  read(): Uint8Array[]
  close(): Promise<void>
}

/** Of a Redis without a password. Resolves when it listens. */
export async function startRedisMonitor(url: string): Promise<RedisMonitor> {
  const { hostname, port } = new URL(url)
  const socket = connect({ host: hostname, port: Number(port) })
  let text = ''
  socket.setEncoding('latin1').on('data', (chunk: string) => {
    text += chunk
  })
  socket.write('MONITOR\r\n')
  await once(socket, 'data')
  if (!text.startsWith('+OK')) throw new Error(`Redis refuses MONITOR: ${text.slice(0, 80)}`)
  return {
    read: () => [...text.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map(([, quoted = '']) => unquote(quoted)),
    close: async () => {
      const closed = once(socket, 'close')
      socket.destroy()
      await closed
    },
  }
}

const CONTROLS: Readonly<Record<string, string>> = { n: '\n', r: '\r', t: '\t', a: '\u0007', b: '\b' }

/** As `sdscatrepr` of Redis writes what does not print. */
const unquote = (quoted: string): Uint8Array =>
  Buffer.from(
    quoted.replace(/\\(?:x([0-9a-f]{2})|(.))/g, (_, hex: string | undefined, character: string) =>
      hex === undefined ? (CONTROLS[character] ?? character) : String.fromCharCode(Number.parseInt(hex, 16)),
    ),
    'latin1',
  )
