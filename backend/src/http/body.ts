// The body of a request, whole, within a bound of bytes and of time.

import type { IncomingMessage } from 'node:http'

/** So few bytes take no longer, unless somebody holds a socket open with them. */
export const BODY_TIMEOUT_MS = 10_000

/** `gone` when the peer left before the end. */
export function readBody(
  request: IncomingMessage,
  maxBytes: number,
): Promise<Uint8Array | 'too_long' | 'late' | 'gone'> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = []
    let length = 0
    const settle = (body: Uint8Array | 'too_long' | 'late' | 'gone'): void => {
      clearTimeout(deadline)
      request.pause()
      resolve(body)
    }
    const deadline = setTimeout(() => settle('late'), BODY_TIMEOUT_MS)
    request.on('data', (chunk: Buffer) => {
      length += chunk.length
      if (length > maxBytes) settle('too_long')
      else chunks.push(chunk)
    })
    request.once('end', () => settle(new Uint8Array(Buffer.concat(chunks))))
    request.once('error', () => settle('gone'))
    request.once('close', () => settle('gone'))
  })
}
