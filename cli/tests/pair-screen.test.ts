// `valise pair` as a person sees it at a terminal: the QR and the code, the digits that he types, and what he is told when
// he has begun too many.

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { encode } from 'uqr'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { runProgram } from '../src/program.ts'
import { renderQr } from '../src/qr.ts'
import { within } from './support/deadline.ts'
import { startServer, type TestServer } from './support/server.ts'
import { initDevice } from './support/user.ts'
import { cleanUp, jsonLines, makeFolder, runValise, startValise } from './support/valise.ts'

let server: TestServer
let folder: string
let laptop: string

beforeAll(async () => {
  folder = makeFolder()
  server = await startServer(folder)
  laptop = join(folder, 'laptop')
  await initDevice(server, laptop)
}, 120_000)
afterAll(cleanUp)

/** The modules that a terminal shows, two rows a line; true for dark. */
const modulesOf = (drawn: string): boolean[][] =>
  drawn.split('\n').flatMap((line) => {
    const cells = [...line].map((cell) => {
      const lights = { ' ': [false, false], '▀': [true, false], '▄': [false, true], '█': [true, true] }[cell]
      if (lights === undefined) throw new Error(`no cell of a QR: ${cell}`)
      return lights
    })
    return [0, 1].map((row) => cells.map((lights) => !lights[row]))
  })

/** The command in this process, before a person who reads what it prints and types. */
function sitDown(args: readonly string[], home: string) {
  const stdin = Object.assign(new PassThrough(), { isTTY: true })
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  let printed = ''
  let wake: () => void = () => {}
  for (const stream of [stdout, stderr]) {
    stream.on('data', (chunk: Buffer) => {
      printed += chunk
      wake()
    })
  }
  const ended = runProgram([...args, '--home', home], { stdin, stdout, stderr, environment: {} })
  const read = async (pattern: RegExp): Promise<RegExpExecArray> => {
    for (;;) {
      const found = pattern.exec(printed)
      if (found !== null) return found
      await new Promise<void>((resolve) => {
        wake = resolve
      })
    }
  }
  return {
    type: (text: string) => stdin.write(`${text}\n`),
    read: (pattern: RegExp) => within(30_000, String(pattern), read(pattern)),
    ended,
  }
}

describe('the QR', () => {
  it('PAIR-2: has the modules of its text and light around them, two rows a line, whatever the colours', () => {
    const text = `https://host.test/p#1.${'a'.repeat(22)}.${'b'.repeat(43)}.${'c'.repeat(22)}.e`
    const { data } = encode(text, { ecc: 'L', border: 2 })
    const drawn = modulesOf(renderQr(text, false))
    expect(drawn.slice(0, data.length)).toEqual(data)
    for (const border of [0, 1, data.length - 2, data.length - 1]) expect(drawn[border]).not.toContain(true)
    const coloured = renderQr(text, true).split('\n')
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the colours are such characters
    expect(coloured.map((line) => /^\u001b\[97;40m(.*)\u001b\[0m$/.exec(line)?.[1]).join('\n')).toBe(
      renderQr(text, false),
    )
  })
})

describe('the screen of the device that lets in', () => {
  it('PAIR-2, PAIR-4: shows a QR and what to type, says who asks, and takes four digits and no fewer', async () => {
    const screen = sitDown(['pair'], laptop)
    const [, code] = await screen.read(/or type there: {2}npx valise pair (\d{3}(?:-\d{3}){4}) --server ws:\/\//)
    const [drawn] = await screen.read(/[█▀▄][█▀▄ \n]+[█▀▄]/)
    const modules = modulesOf(drawn)
    // Three corners of seven modules, as every QR has them.
    const corner = Array.from({ length: 7 }, () => true)
    expect(modules[2]!.slice(2, 9)).toEqual(corner)
    expect(modules[2]!.slice(-9, -2)).toEqual(corner)
    expect(modules[modules[0]!.length - 3]!.slice(2, 9)).toEqual(corner)

    const joining = startValise(['pair', code!, '--server', server.url, '--name', 'phone', '--json'], {
      home: join(folder, 'phone'),
    })
    const check = () => jsonLines(joining.stdout).find(({ type }) => type === 'check')
    await joining.until('the digits', () => joining.stdout.toString().endsWith('\n') && check() !== undefined)
    await screen.read(
      /name {9}phone\n[\s\S]*It will read everything[\s\S]*Type the four digits that it shows, or no to decline: /,
    )
    screen.type('12')
    await screen.read(/(Type the four digits[\s\S]*){2}/)
    const { digits } = check() as { digits: string }
    screen.type(` ${digits.slice(0, 2)} ${digits.slice(2)} `)
    await screen.read(/Paired: "phone" is one of your devices now\. Your other devices are told\./)
    expect(await screen.ended).toBe(0)
    expect((await joining.ended()).exitCode).toBe(0)
  }, 120_000)

  it('PAIR-7: the eleventh in an hour is refused with the time to wait, and is nothing to go on with', async () => {
    for (let opened = 1; opened < 10; opened++) {
      const showing = startValise(['pair', '--fresh', '--json'], { home: laptop })
      await showing.until('an offer', ({ stdout }) => stdout.includes('"offer"'))
      showing.interrupt()
      expect((await showing.ended()).exitCode).toBe(130)
    }
    const refused = await runValise(['pair', '--fresh', '--json'], { home: laptop })
    expect(refused.exitCode).toBe(1)
    expect(JSON.parse(refused.stderr)).toEqual({
      error: 'pairing_limited',
      message: expect.stringMatching(/^Too many pairings, .* in (59|60) minutes\.$/),
    })
    expect(existsSync(join(laptop, 'pairing'))).toBe(false)
  }, 180_000)
})
