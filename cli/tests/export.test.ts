// A copy of an account and another account made of it, as a person does it: export, check, import, and what is refused.
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startServer, type TestServer } from './support/server.ts'
import { initDevice, makeTwoDevices } from './support/user.ts'
import { cleanUp, jsonLines, lastJson, makeFolder, runValise } from './support/valise.ts'

const lines = Array.from({ length: 300 }, (_, i) => `line ${i}\n`).join('')

describe('valise export and import', () => {
  let folder: string
  let server: TestServer
  let laptop: string
  let phone: string
  let file: string
  beforeAll(async () => {
    folder = makeFolder()
    server = await startServer(folder)
    ;({ laptop, phone } = await makeTwoDevices(server, folder))
    file = join(folder, 'copy.jsonl')
  })
  afterAll(cleanUp)

  it('EXP-1: what was sent is in the file, for its owner alone, and the file proves itself without a home', async () => {
    expect((await runValise(['send', 'notes'], { home: laptop, input: lines })).exitCode).toBe(0)
    const exported = await runValise(['export', file, '--json', '--stream', 'notes'], { home: phone })
    expect(exported).toMatchObject({ exitCode: 0, stderr: '' })
    expect(statSync(file).mode & 0o777).toBe(0o600)
    const texts = jsonLines(readFileSync(file)).flatMap((line) =>
      line['stream'] === 'notes' ? [(line['content'] as { text: string }).text] : [],
    )
    expect(texts.map((text) => `${text}\n`).join('')).toBe(lines)
    const checked = await runValise(['export', file, '--verify', '--json'])
    expect(checked).toMatchObject({ exitCode: 0, stderr: '' })
    expect(lastJson(checked.stdout)).toMatchObject({ sound: true, device_log_entries: 2 })
    const piped = await runValise(['export', '-', '--offline'], { home: phone })
    expect(piped.exitCode).toBe(0)
    expect((await runValise(['export', '-', '--verify'], { input: piped.stdout })).exitCode).toBe(0)
  })

  it('CLI-4: a file that is there, a server that is away, a file that was changed', async () => {
    const again = await runValise(['export', file], { home: laptop })
    expect(again.exitCode).toBe(2)
    expect(again.stderr).toContain('--force')
    expect((await runValise(['export', file, '--force', '--offline'], { home: laptop })).exitCode).toBe(0)
    const changed = join(folder, 'changed.jsonl')
    writeFileSync(changed, readFileSync(file, 'utf8').replace('line 7', 'line 8'))
    const refused = await runValise(['export', changed, '--verify'])
    expect(refused.exitCode).toBe(3)
    expect(refused.stderr).toMatch(/^Line \d+: field content: expected what is sealed in the event/)
    expect((await runValise(['import', changed], { home: laptop })).exitCode).toBe(3)
    const missing = await runValise(['import', join(folder, 'none')], { home: laptop })
    expect(missing.exitCode).toBe(2)
    expect(missing.stderr).toContain('ENOENT')
  })

  it.each<[string, (lines: string[]) => string[]]>([
    ['a line that says something else', (whole) => whole.map((line) => line.replace('"line 7"', '"line 8"'))],
    ['a line too few', (whole) => whole.toSpliced(9, 1)],
    ['a line twice', (whole) => whole.toSpliced(9, 0, whole[9]!)],
    ['two lines in each other’s place', (whole) => whole.with(9, whole[10]!).with(10, whole[9]!)],
    ['its end cut off', (whole) => whole.slice(0, 20)],
  ])('EXP-1: an import of a file with %s is refused, and publishes nothing of it', async (_, change) => {
    const whole = readFileSync(file, 'utf8').trimEnd().split('\n')
    const changed = change(whole)
    expect(changed).not.toEqual(whole)
    const tampered = join(folder, 'tampered.jsonl')
    writeFileSync(tampered, `${changed.join('\n')}\n`)
    const before = lastJson((await runValise(['status', '--json'], { home: phone })).stdout)
    const refused = await runValise(['import', tampered, '--yes', '--json'], { home: phone })
    expect(refused.exitCode).toBe(3)
    expect(JSON.parse(refused.stderr)).toMatchObject({
      error: 'bad_export',
      message: expect.stringMatching(/^Line \d+|^The file/),
    })
    const after = lastJson((await runValise(['status', '--json'], { home: phone })).stdout)
    expect([after['device_seq'], after['outbox_events']]).toEqual([before['device_seq'], before['outbox_events']])
  })

  it('EXP-3: another account reads it as it was, once, however often it is imported', async () => {
    const other = join(folder, 'other')
    await initDevice(server, other)
    const imported = await runValise(['import', file, '--json'], { home: other })
    expect(imported).toMatchObject({ exitCode: 0, stderr: '' })
    expect(lastJson(imported.stdout)).toMatchObject({ type: 'imported', events: 300, before: 0 })
    const twice = await runValise(['import', file, '--json'], { home: other })
    expect(lastJson(twice.stdout)).toMatchObject({ events: 0, before: 300 })
    const copy = join(folder, 'other.jsonl')
    expect((await runValise(['export', copy], { home: other })).exitCode).toBe(0)
    const texts = jsonLines(readFileSync(copy)).flatMap((line) =>
      line['stream'] === 'notes' ? [(line['content'] as { text: string }).text] : [],
    )
    expect(texts.map((text) => `${text}\n`).join('')).toBe(lines)
    // Into the very account it came from: asked first.
    const same = await runValise(['import', file], { home: laptop })
    expect(same.exitCode).toBe(2)
    expect(same.stderr).toContain('not a terminal')
  })

  it('P8: without a server, what the device holds is exported when that is asked for', async () => {
    expect(await server.stop()).toBe(0)
    const away = await runValise(['export', join(folder, 'away.jsonl')], { home: laptop })
    expect(away.exitCode).toBe(1)
    expect(away.stderr).toContain('--offline')
    expect((await runValise(['export', join(folder, 'away.jsonl'), '--offline'], { home: laptop })).exitCode).toBe(0)
  })
})
