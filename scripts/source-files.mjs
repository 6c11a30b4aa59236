// What holds for every source file of the product: one thing a file, said at its top, in a folder named for it.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { root } from './command.mjs'

const maxLines = 300
const drawer = /(^|\/)(utils?|helpers?|common|shared|misc|types)(\/|\.ts$)/
const environmentReader = /^(backend\/src\/config\.ts|cli\/)/

/** One sentence for each fault in the sources under `folder`. */
export function findSourceFaults(folder = root) {
  return ['protocol', 'backend', 'client', 'cli'].flatMap((workspace) => {
    const sources = readdirSync(join(folder, workspace, 'src'), { recursive: true, encoding: 'utf8' })
    return sources
      .filter((name) => name.endsWith('.ts'))
      .map((name) => `${workspace}/src/${name}`)
      .flatMap((file) => judgeSourceFile(file, readFileSync(join(folder, file), 'utf8')))
  })
}

export function judgeSourceFile(file, text) {
  const lineCount = text.trimEnd().split('\n').length
  return [
    ...(/^(\/\/|\/\*)/.test(text) ? [] : [`${file} does not open with what it owns`]),
    ...(lineCount > maxLines && !saysWhyLong(text) ? [`${file} has ${lineCount} lines, more than ${maxLines}`] : []),
    ...(drawer.test(file) ? [`${file} is a drawer, not a thing`] : []),
    ...(text.includes('process.env') && !environmentReader.test(file)
      ? [`${file} reads the environment; that is config.ts's`]
      : []),
  ]
}

/** The comment at the top may give the reason for a file that cannot be split: `More than 300 lines: …`. */
function saysWhyLong(text) {
  const header = /^(?:\/\/.*\n)+/.exec(text)?.[0] ?? ''
  return header.includes(`More than ${maxLines} lines: `)
}
