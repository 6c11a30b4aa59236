// Who may import whom: runs dependency-cruiser over a folder laid out like this repository.
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { capture, programs, root } from './command.mjs'

const configFile = join(root, '.dependency-cruiser.cjs')
const sourceFolders = ['protocol/src', 'backend/src', 'client/src', 'cli/src', 'cli/bin']

/**
 * One entry for each arrow that points the wrong way, and for each circle.
 * @returns {{ rule: string, from: string, to: string }[]}
 */
export function findWrongArrows(folder = root) {
  const folders = sourceFolders.filter((name) => existsSync(join(folder, name)))
  const args = [programs.depcruise, '--config', configFile, '--output-type', 'json', ...folders]
  const { exitCode, output } = capture(process.execPath, args, { cwd: folder })
  if (!output.startsWith('{')) throw new Error(`dependency-cruiser ended with ${exitCode}:\n${output}`)
  const { violations } = JSON.parse(output).summary
  return violations.map(({ rule, from, to, cycle }) => ({
    rule: rule.name,
    from,
    to: cycle ? cycle.map((step) => step.name).join(' → ') : to,
  }))
}
