import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { cutLines, type Piece, payloadOf } from '../src/lines.ts'

async function cut(chunks: readonly Uint8Array[], maxBytes = 1000): Promise<Piece[]> {
  const source = async function* () {
    yield* chunks
  }
  const pieces: Piece[] = []
  for await (const piece of cutLines(source(), maxBytes)) pieces.push(piece)
  return pieces
}

const text = (piece: Piece): string => `${piece.type}:${Buffer.from(piece.body)}`

describe('cutting standard input into events', () => {
  it('CLI-1: each line is an event without its newline, whatever the chunks', async () => {
    const pieces = await cut([Buffer.from('one\ntw'), Buffer.from('o\n'), Buffer.from('\nthree\n')])
    expect(pieces.map(text)).toEqual(['line:one', 'line:two', 'line:', 'line:three'])
  })

  it('CLI-1: what follows the last newline is bytes as they are', async () => {
    expect((await cut([Buffer.from('one\ntwo')])).map(text)).toEqual(['line:one', 'file:two'])
    expect(await cut([])).toEqual([])
  })

  it('CLI-1: a line that is too long for one event travels in parts', async () => {
    const pieces = await cut([Buffer.from('aaaabbbbcc\n'), Buffer.from('dddd\neeee'), Buffer.from('f')], 4)
    expect(pieces.map(text)).toEqual(['part:aaaa', 'part:bbbb', 'line:cc', 'line:dddd', 'part:eeee', 'file:f'])
  })

  it('CLI-1: the payloads put together are the input, byte for byte, and no piece is too large', async () => {
    const chunk = fc.array(fc.oneof(fc.constant(0x0a), fc.integer({ min: 0, max: 255 })), { maxLength: 40 })
    await fc.assert(
      fc.asyncProperty(fc.array(chunk), fc.integer({ min: 1, max: 20 }), async (chunks, maxBytes) => {
        const input = chunks.map((bytes) => Uint8Array.from(bytes))
        const pieces = await cut(input, maxBytes)
        expect(Buffer.concat(pieces.map(payloadOf))).toEqual(Buffer.concat(input))
        for (const { body } of pieces) expect(body.length).toBeLessThanOrEqual(maxBytes)
      }),
    )
  })
})
