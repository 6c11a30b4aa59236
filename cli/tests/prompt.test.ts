import { PassThrough } from 'node:stream'
import { describe, expect, it } from 'vitest'
import { MisuseError } from '../src/failure.ts'
import { createPrompt } from '../src/prompt.ts'

const never = new AbortController().signal

function createTerminal() {
  return Object.assign(new PassThrough(), { isTTY: true })
}

describe('a question', () => {
  it.each([
    ['y\n', true],
    ['  YES \n', true],
    ['n\n', false],
    ['\n', false],
    ['yeah\n', false],
  ])('CLI-4: %j is answered', async (typed, answer) => {
    const stdin = createTerminal()
    const stderr = new PassThrough()
    stdin.write(typed)
    expect(await createPrompt({ stdin, stderr, answersYes: false }).confirm('Really?', never)).toBe(answer)
    expect(String(stderr.read())).toBe('Really? [y/N] ')
  })

  it('CLI-4: the end of the input, or an interruption, is no', async () => {
    const ended = createTerminal()
    ended.end()
    const stderr = new PassThrough()
    expect(await createPrompt({ stdin: ended, stderr, answersYes: false }).confirm('Really?', never)).toBe(false)
    const interruption = new AbortController()
    const asked = createPrompt({ stdin: createTerminal(), stderr, answersYes: false })
    const answer = asked.confirm('Really?', interruption.signal)
    interruption.abort()
    expect(await answer).toBe(false)
  })

  it('CLI-4: without a terminal nobody is asked, unless --yes answers', async () => {
    const parts = { stdin: new PassThrough(), stderr: new PassThrough() }
    expect(() => createPrompt({ ...parts, answersYes: false }).requireSomeone()).toThrow(MisuseError)
    expect(await createPrompt({ ...parts, answersYes: true }).confirm('Really?', never)).toBe(true)
    expect(parts.stderr.read()).toBeNull()
  })
})

describe('what must not be seen', () => {
  function createRawTerminal() {
    const modes: boolean[] = []
    return { stdin: Object.assign(createTerminal(), { setRawMode: (isRaw: boolean) => modes.push(isRaw) }), modes }
  }

  it('REC-1: a secret is read without an echo, with what was typed wrong taken back', async () => {
    const { stdin, modes } = createRawTerminal()
    const stderr = new PassThrough()
    const prompt = createPrompt({ stdin, stderr, answersYes: false })
    const secret = prompt.readSecret('Phrase:', never)
    stdin.write('wrong\u0015one twp\u007f')
    stdin.write('o\rnext\r')
    expect(await secret).toBe('one two')
    expect(await prompt.readSecret('Phrase:', never)).toBe('next')
    expect(String(stderr.read())).not.toMatch(/one|two|next/)
    expect(modes).toEqual([true, false, true, false])
  })

  it('REC-1: nothing typed in answer to the question can come before the echo is off', async () => {
    const { stdin, modes } = createRawTerminal()
    const stderr = new PassThrough()
    let modesWhenAsked: boolean[] | undefined
    stderr.on('data', () => {
      modesWhenAsked ??= [...modes]
    })
    const secret = createPrompt({ stdin, stderr, answersYes: false }).readSecret('Phrase:', never)
    stdin.write('x\r')
    await secret
    expect(modesWhenAsked).toEqual([true])
  })

  it('REC-1: Ctrl-C ends it as it ends everything, and the terminal is as it was', async () => {
    const { stdin, modes } = createRawTerminal()
    let interrupted = 0
    const prompt = createPrompt({
      stdin,
      stderr: new PassThrough(),
      answersYes: false,
      onInterrupt: () => interrupted++,
    })
    const secret = prompt.readSecret('Phrase:', never)
    stdin.write('one\u0003')
    expect(await secret).toBeUndefined()
    expect([interrupted, modes]).toEqual([1, [true, false]])
  })

  it('REC-1: what is shown once is gone from the screen when Enter was pressed', async () => {
    const { stdin } = createRawTerminal()
    const stderr = new PassThrough()
    const shown = createPrompt({ stdin, stderr, answersYes: false }).showOnce('the words', never)
    stdin.write('\r')
    expect(await shown).toBe(true)
    expect(String(stderr.read())).toBe('\u001b[?1049h\u001b[2J\u001b[Hthe words\n\u001b[2J\u001b[?1049l')
  })

  it('REC-1: a pipe is read line by line, whatever comes in one piece', async () => {
    const stdin = new PassThrough()
    stdin.end('first\nsecond')
    const prompt = createPrompt({ stdin, stderr: new PassThrough(), answersYes: true })
    expect(await prompt.readSecret('?', never)).toBe('first')
    expect(await prompt.readSecret('?', never)).toBe('second')
    expect(await prompt.readSecret('?', never)).toBeUndefined()
  })

  it('CLI-4: where yes is the default only no is no, and no answer is no', async () => {
    for (const [typed, answer] of [
      ['\n', true],
      ['y\n', true],
      ['N\n', false],
      ['no\n', false],
    ] as const) {
      const stdin = createTerminal()
      stdin.write(typed)
      const prompt = createPrompt({ stdin, stderr: new PassThrough(), answersYes: false })
      expect(await prompt.confirm('Really?', never, 'yes')).toBe(answer)
    }
    const ended = createTerminal()
    ended.end()
    expect(
      await createPrompt({ stdin: ended, stderr: new PassThrough(), answersYes: false }).confirm('?', never, 'yes'),
    ).toBe(false)
  })
})
