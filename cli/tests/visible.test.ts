// Nothing that another device, a server or a file says is obeyed by a terminal; what is piped stays as it is.
import { PassThrough } from 'node:stream'
import { finished } from 'node:stream/promises'
import { describe, expect, it } from 'vitest'
import { createOutput } from '../src/output.ts'
import { createPrompt } from '../src/prompt.ts'
import { printable } from '../src/visible.ts'

const HOSTILE = 'a\u001b]0;title\u0007b\u009b2Jc\u007fd\r\u202ee\u2066f\u2028g\u{e0041}h'
const SHOWN = 'a\\x1b]0;title\\x07b\\x9b2Jc\\x7fd\\x0d\\u{202e}e\\u{2066}f\\u{2028}g\\u{e0041}h'
/** What a terminal obeys, or is led astray by. */
const OBEYED = /[\p{Cc}\p{Zl}\p{Zp}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/u

function createScene({ isTTY = false, isJson = false }) {
  const stdout = Object.assign(new PassThrough(), { isTTY })
  const stderr = new PassThrough()
  const output = createOutput({ stdout, stderr, isJson })
  const collect = (stream: PassThrough) => {
    const chunks: Buffer[] = []
    stream.on('data', (chunk: Buffer) => chunks.push(chunk))
    return async (): Promise<Buffer> => {
      stream.end()
      await finished(stream)
      return Buffer.concat(chunks)
    }
  }
  return { output, stdout: collect(stdout), stderr: collect(stderr) }
}

describe('bytes of an event', () => {
  it('CLI-8: control characters are shown on a terminal, and none is obeyed', async () => {
    const scene = createScene({ isTTY: true })
    await scene.output.write(Buffer.from(`${HOSTILE}\n\tnext\n`))
    expect(String(await scene.stdout())).toBe(`${SHOWN}\n\tnext\n`)
  })

  it('CLI-8: what is no UTF-8 is shown byte by byte on a terminal, and the rest as it is', async () => {
    const scene = createScene({ isTTY: true })
    const bytes = [0x61, 0xff, 0xc3, 0xa9, 0xc3, 0x62, 0xed, 0xa0, 0x80, 0xf0, 0x9f, 0x98, 0x80, 0xf0, 0x9f]
    await scene.output.write(Uint8Array.from([...bytes, 0x1b]))
    expect(String(await scene.stdout())).toBe('a\\xffé\\xc3b\\xed\\xa0\\x80😀\\xf0\\x9f\\x1b')
  })

  it('CLI-8: every byte alone, and every pair after a lead byte, is safe on a terminal', async () => {
    const scene = createScene({ isTTY: true })
    for (let first = 0; first < 256; first++) {
      await scene.output.write(Uint8Array.of(first))
      if (first < 0xc0) continue
      for (let second = 0; second < 256; second++) await scene.output.write(Uint8Array.of(first, second))
    }
    const shown = String(await scene.stdout())
    expect(shown.replace(/[\n\t]/g, '')).not.toMatch(OBEYED)
    expect(shown).not.toContain('\ufffd')
  })

  it('CLI-8: emoji and letters that are joined stay joined', async () => {
    const scene = createScene({ isTTY: true })
    await scene.output.write(Buffer.from('👨\u200d👩\u200d👧 نمی\u200cخواهم'))
    expect(String(await scene.stdout())).toBe('👨\u200d👩\u200d👧 نمی\u200cخواهم')
  })

  it('CLI-1: piped, they are the same byte for byte', async () => {
    const scene = createScene({ isTTY: false })
    const bytes = Uint8Array.from({ length: 256 }, (_, index) => index)
    await scene.output.write(bytes)
    expect((await scene.stdout()).equals(bytes)).toBe(true)
  })
})

describe('texts', () => {
  it.each([true, false])('CLI-8: results, notices and failures are safe to show (terminal: %s)', async (isTTY) => {
    const scene = createScene({ isTTY })
    scene.output.result(`one\n${HOSTILE}`, {})
    scene.output.notice('code', HOSTILE)
    scene.output.failure('code', HOSTILE)
    expect(String(await scene.stdout())).toBe(`one\n${SHOWN}\n`)
    expect(String(await scene.stderr())).toBe(`${SHOWN}\n${SHOWN}\n`)
  })

  it('CLI-8, CLI-5: JSON says the same with escapes', async () => {
    const scene = createScene({ isJson: true, isTTY: true })
    scene.output.result('', { name: HOSTILE })
    scene.output.failure('code', HOSTILE, { [HOSTILE]: 1 })
    for (const line of [await scene.stdout(), await scene.stderr()]) {
      expect(line.toString().trimEnd()).not.toMatch(OBEYED)
      expect(JSON.stringify(JSON.parse(line.toString()))).toContain(JSON.stringify(HOSTILE).slice(1, -1))
    }
  })

  it('CLI-8: a question is safe to show', async () => {
    const stdin = Object.assign(new PassThrough(), { isTTY: true })
    const stderr = new PassThrough()
    const prompt = createPrompt({ stdin, stderr, answersYes: false })
    stdin.write('y\nx\n')
    const never = new AbortController().signal
    await prompt.confirm(HOSTILE, never)
    await prompt.ask(HOSTILE, never)
    expect(String(stderr.read())).toBe(`${SHOWN} [y/N] ${SHOWN}`)
  })

  it('CLI-8: a name of another device cannot begin a line of its own', () => {
    expect(printable('phone\nALARM: \u200d\u00ad')).toBe('phone\\x0aALARM: \\u{200d}\\xad')
  })
})
