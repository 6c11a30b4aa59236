// Cuts a stream of bytes into events, so that their bodies, put together again by `payloadOf`, are the stream byte for
// byte. Holds at most one line, and no more of it than fits into one event.

const NEWLINE = 0x0a

/**
 * `line`: the body of a line, its newline left out. `part`: the beginning of a line that is too long for one event.
 * `file`: bytes as they are, whether a whole file or what follows the last newline.
 */
export interface Piece {
  readonly type: 'line' | 'part' | 'file'
  readonly body: Uint8Array
}

export async function* cutLines(chunks: AsyncIterable<Uint8Array>, maxBytes: number): AsyncGenerator<Piece> {
  let held: Uint8Array[] = []
  let heldBytes = 0
  const hold = (bytes: Uint8Array): void => {
    if (bytes.length === 0) return
    held.push(bytes)
    heldBytes += bytes.length
  }
  const take = (type: Piece['type']): Piece => {
    const only = held.length === 1 ? held[0] : undefined
    const body = only ?? new Uint8Array(Buffer.concat(held))
    held = []
    heldBytes = 0
    return { type, body }
  }

  for await (const chunk of chunks) {
    let start = 0
    while (start < chunk.length) {
      const found = chunk.indexOf(NEWLINE, start)
      const end = found === -1 ? chunk.length : found
      while (heldBytes + end - start > maxBytes) {
        const cut = start + maxBytes - heldBytes
        hold(chunk.subarray(start, cut))
        start = cut
        yield take('part')
      }
      hold(chunk.subarray(start, end))
      start = end
      if (found === -1) break
      yield take('line')
      start = found + 1
    }
  }
  if (heldBytes > 0) yield take('file')
}

/** The bytes that a reader of the stream gets for an event. */
export function payloadOf({ type, body }: { readonly type: string; readonly body: Uint8Array }): Uint8Array {
  if (type !== 'line') return body
  const payload = new Uint8Array(body.length + 1)
  payload.set(body)
  payload[body.length] = NEWLINE
  return payload
}
