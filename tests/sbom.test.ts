// `npm run sbom` (OPS-4) against the lock file: every production dependency with its version and hash, and no other.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { keepProduction, makeSbom } from '../scripts/sbom.mjs'

interface Locked {
  readonly version: string
  readonly integrity?: string
  readonly dev?: boolean
  readonly link?: boolean
}
interface Bom {
  readonly metadata: { readonly component: { readonly name: string } }
  readonly components: readonly {
    readonly 'bom-ref': string
    readonly name: string
    readonly version: string
    readonly purl: string
    readonly hashes?: readonly { readonly alg: string; readonly content: string }[]
  }[]
  readonly dependencies: readonly { readonly ref: string; readonly dependsOn: readonly string[] }[]
}

const root = join(import.meta.dirname, '..')
const { packages }: { packages: Record<string, Locked> } = JSON.parse(
  readFileSync(join(root, 'package-lock.json'), 'utf8'),
)
const external = Object.entries(packages).filter(
  ([path, { dev, link }]) => path.includes('node_modules/') && !dev && !link,
)

let bom: Bom
beforeAll(() => {
  bom = makeSbom() as Bom
})

describe('OPS-4: the list of what the program is made of', () => {
  it('OPS-4: it names each production dependency of the lock file once, with its hash, and none of development', () => {
    expect(bom).toMatchObject({ bomFormat: 'CycloneDX' })
    expect(external.length).toBeGreaterThan(50)
    const named = bom.components.filter(({ purl }) => !/^pkg:npm\/(%40valise\/|valise@)/.test(purl))
    const expected = external.map(([path, { version }]) => `${path.split('node_modules/').at(-1)}@${version}`)
    expect(named.map(({ name, version }) => `${name}@${version}`).sort()).toEqual([...new Set(expected)].sort())
    for (const [path, { version, integrity }] of external) {
      const name = path.split('node_modules/').at(-1)
      const component = named.find((each) => each.name === name && each.version === version)
      const [hash] = component?.hashes ?? []
      expect(hash?.alg, path).toBe('SHA-512')
      expect(`sha512-${Buffer.from(hash?.content ?? '', 'hex').toString('base64')}`, path).toBe(integrity)
    }
  })

  it('OPS-4: it names the packages of this repository by their own names, wherever the clone lies', () => {
    const own = bom.components.filter(({ purl }) => /^pkg:npm\/(%40valise\/|valise@)/.test(purl))
    expect(own.map(({ name }) => name).sort()).toEqual([
      '@valise/backend',
      '@valise/client',
      '@valise/protocol',
      'valise',
    ])
    expect(bom.metadata.component.name).toBe('valise-house')
  })

  it('OPS-4: what depends on what leads to components of the list alone', () => {
    const refs = new Set(bom.components.map((component) => component['bom-ref']))
    const led = bom.dependencies.flatMap(({ dependsOn }) => dependsOn)
    expect(led.length).toBeGreaterThan(50)
    for (const ref of led) expect(refs.has(ref), ref).toBe(true)
  })

  it('OPS-4: a list that lacks one is refused', () => {
    const lock = { packages: { '': {}, 'node_modules/ws': { version: '8.0.0' } } }
    const whole = { metadata: { component: { 'bom-ref': 'r', purl: 'pkg:npm/r@1' } }, components: [], dependencies: [] }
    expect(() => keepProduction(whole, lock)).toThrow('does not name ws@8.0.0')
  })
})
