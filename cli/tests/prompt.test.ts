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
