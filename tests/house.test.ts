// The house rules that a machine can check, and the proof that the check bites: a copy of the sources with one
// violation for every rule must be refused by exactly those rules.
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { findWrongArrows } from '../scripts/arrows.mjs'
import { findLockFileFaults } from '../scripts/lock-file.mjs'
import { findSourceFaults, judgeSourceFile } from '../scripts/source-files.mjs'

const root = join(import.meta.dirname, '..')
const workspaces = ['protocol', 'backend', 'client', 'cli']
const rules: { name: string }[] = createRequire(import.meta.url)('../.dependency-cruiser.cjs').forbidden

/** For each rule a file that breaks it. */
const violations: Record<string, { file: string; text: string }[]> = {
  'protocol-stands-alone': [{ file: 'protocol/src/wrong-side.ts', text: "import '@valise/backend'" }],
  'protocol-is-portable': [{ file: 'protocol/src/wrong-port.ts', text: "import 'node:fs'" }],
  'backend-knows-only-protocol': [{ file: 'backend/src/wrong-side.ts', text: "import '@valise/client'" }],
  'backend-is-blind': [{ file: 'backend/src/wrong-sight.ts', text: "import '@noble/ciphers/chacha.js'" }],
  'every-query-is-counted': [{ file: 'backend/src/wrong-door-to-queries.ts', text: "import 'pg'" }],
  'client-knows-only-protocol': [{ file: 'client/src/wrong-side.ts', text: "import '@valise/backend'" }],
  'client-core-is-portable': [{ file: 'client/src/wrong-port.ts', text: "import 'node:fs'" }],
  'client-core-reaches-no-node-part': [{ file: 'client/src/wrong-part.ts', text: "import 'ws'" }],
  'only-operators-know-the-backend': [{ file: 'cli/src/wrong-side.ts', text: "import '@valise/backend'" }],
  'through-the-door-from-protocol': [
    { file: 'protocol/src/wrong-door.ts', text: "import '../../client/src/wrong-side.ts'" },
  ],
  'through-the-door-from-backend': [
    { file: 'backend/src/wrong-door.ts', text: "import '../../protocol/src/wrong-port.ts'" },
  ],
  'through-the-door-from-client': [
    { file: 'client/src/wrong-door.ts', text: "import type {} from '../../protocol/src/wrong-port.ts'" },
  ],
  'through-the-door-from-cli': [{ file: 'cli/src/wrong-door.ts', text: "import '../../client/src/wrong-side.ts'" }],
  'door-from-outside-only': [{ file: 'protocol/src/wrong-circle.ts', text: "import './index.ts'" }],
  'limits-stand-below': [{ file: 'backend/src/limits/wrong-height.ts', text: "import type {} from '../version.ts'" }],
  'no-cycles': [
    { file: 'backend/src/wrong-egg.ts', text: "import './wrong-hen.ts'\nexport {}" },
    { file: 'backend/src/wrong-hen.ts', text: "import type {} from './wrong-egg.ts'\nexport {}" },
  ],
  'no-unresolvable': [{ file: 'backend/src/wrong-name.ts', text: "import './not-there.ts'" }],
}

describe('the arrows between the packages', () => {
  let house: string

  beforeAll(() => {
    house = copyOfTheHouse()
  })
  afterAll(() => rmSync(house, { recursive: true, force: true }))

  it('HOUSE-1: no arrow points the wrong way, and none in a circle', () => {
    expect(findWrongArrows(house)).toEqual([])
  })

  it('HOUSE-2: every rule refuses the file that breaks it', () => {
    expect(Object.keys(violations).sort()).toEqual(rules.map((rule) => rule.name).sort())
    const wrongFiles = Object.values(violations).flat()
    for (const { file, text } of wrongFiles) writeFileSync(join(house, file), `${text}\n`)
    const found = findWrongArrows(house)
    for (const { file } of wrongFiles) rmSync(join(house, file))

    const refused = found.map((arrow) => `${arrow.rule}: ${arrow.from}`)
    for (const [rule, [first]] of Object.entries(violations)) expect(refused).toContain(`${rule}: ${first!.file}`)
  })

  it('HOUSE-3: the server is not blind as soon as something it imports can see', () => {
    const roundabout = { 'backend/src/wrong-way.ts': './wrong-sight.ts', 'backend/src/wrong-sight.ts': '@hpke/core' }
    for (const [file, name] of Object.entries(roundabout)) writeFileSync(join(house, file), `import '${name}'\n`)
    const found = findWrongArrows(house)
    for (const file of Object.keys(roundabout)) rmSync(join(house, file))
    expect(found).toContainEqual(
      expect.objectContaining({ rule: 'backend-is-blind', from: 'backend/src/wrong-way.ts' }),
    )
  })
})

describe('the lock file', () => {
  it('HOUSE-4: names no registry, and every optional package', () => {
    expect(findLockFileFaults(readFileSync(join(root, 'package-lock.json'), 'utf8'))).toEqual([])
  })

  it('HOUSE-4: an address or a missing platform is found', () => {
    const packages = {
      'node_modules/a': { version: '1.0.0', resolved: 'https://registry.invalid/a.tgz' },
      'node_modules/b': { version: '1.0.0', optionalDependencies: { 'b-darwin-arm64': '1.0.0' } },
    }
    expect(findLockFileFaults(JSON.stringify({ packages }))).toEqual([
      'node_modules/a says where it was fetched from',
      'node_modules/b: its optional package b-darwin-arm64 is not locked',
    ])
  })
})

describe('the source files', () => {
  it('HOUSE-5: each is one thing, and says which; only the configuration reads the environment', () => {
    expect(findSourceFaults()).toEqual([])
  })

  it('HOUSE-5: a file that is not so is found', () => {
    const text = `const level = process.env.LEVEL\n${'\n'.repeat(299)}export { level }\n`
    expect(judgeSourceFile('backend/src/utils/log.ts', text)).toEqual([
      'backend/src/utils/log.ts does not open with what it owns',
      'backend/src/utils/log.ts has 301 lines, more than 300',
      'backend/src/utils/log.ts is a drawer, not a thing',
      "backend/src/utils/log.ts reads the environment; that is config.ts's",
    ])
    expect(
      judgeSourceFile('backend/src/log.ts', `// Owns a table. More than 300 lines: it is one.${'\n'.repeat(301)}x`),
    ).toEqual([])
  })
})

/** Sources and manifests only, beside the installed packages: a place to do wrong in, where nobody else works. */
function copyOfTheHouse(): string {
  const house = mkdtempSync(join(realpathSync(tmpdir()), 'valise-house-'))
  for (const workspace of workspaces) {
    mkdirSync(join(house, workspace))
    cpSync(join(root, workspace, 'package.json'), join(house, workspace, 'package.json'))
    cpSync(join(root, workspace, 'src'), join(house, workspace, 'src'), { recursive: true })
  }
  const packages = join(root, 'node_modules')
  for (const name of ['@valise/protocol', '@valise/backend', '@valise/client']) {
    const link = join(house, 'node_modules', name)
    mkdirSync(dirname(link), { recursive: true })
    symlinkSync(join(house, name.replace('@valise/', '')), link)
  }
  for (const name of readdirSync(packages)) {
    if (name !== '@valise' && name !== 'valise' && !name.startsWith('.')) {
      symlinkSync(join(packages, name), join(house, 'node_modules', name))
    }
  }
  return house
}
