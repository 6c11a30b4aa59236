// The image and the compose file (OPS-4): who runs in the containers, what they may write and do, and who reaches whom.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'

const root = join(import.meta.dirname, '..')
const read = (file: string): string => readFileSync(join(root, file), 'utf8')

interface Service {
  readonly image?: string
  readonly build?: { readonly args?: Readonly<Record<string, string>> }
  readonly user?: string
  readonly privileged?: boolean
  readonly read_only?: boolean
  readonly cap_drop?: readonly string[]
  readonly cap_add?: readonly string[]
  readonly security_opt?: readonly string[]
  readonly networks?: readonly string[]
  readonly ports?: readonly string[]
  readonly volumes?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  readonly healthcheck?: object
}
const compose: {
  readonly services: Readonly<Record<string, Service>>
  readonly networks: Readonly<Record<string, { readonly internal?: boolean } | null>>
} = parse(read('ops/compose.yaml'), { merge: true })
const networksOf = (service: Service | undefined): readonly string[] => service?.networks ?? ['default']
const services = Object.entries(compose.services)

describe('OPS-4: the compose file', () => {
  it.each(services)('OPS-4: %s has a read-only root, no capability and no way to gain one', (_name, service) => {
    expect(service.read_only).toBe(true)
    expect(service.cap_drop).toEqual(['ALL'])
    expect(service.cap_add ?? []).toEqual([])
    expect(service.security_opt).toContain('no-new-privileges:true')
    expect(service.privileged ?? false).toBe(false)
    expect(service.user ?? '').not.toMatch(/^(root|0)\b/)
    for (const volume of service.volumes ?? []) expect(volume).not.toMatch(/docker\.sock|^\/[^:]*:/)
  })

  it('OPS-4: what is published is published on this machine alone', () => {
    for (const [name, { ports }] of services)
      for (const port of ports ?? []) expect(port, name).toMatch(/^127\.0\.0\.1:/)
  })

  it('OPS-4: database and Redis are reached by the node alone, on networks that lead nowhere else', () => {
    for (const name of ['postgres', 'redis']) {
      const networks = networksOf(compose.services[name])
      expect(networks).toHaveLength(1)
      for (const network of networks) {
        expect(compose.networks[network]?.internal).toBe(true)
        const others = services.filter(([other, service]) => other !== name && networksOf(service).includes(network))
        expect(others.map(([other]) => other)).toEqual(['valise'])
      }
      expect(compose.services[name]?.ports ?? []).toEqual([])
    }
    // The admin port: on no network besides those of the node's own parts and of Prometheus.
    const beside = services.filter(
      ([name, service]) =>
        name !== 'valise' &&
        networksOf(service).some((network) => networksOf(compose.services['valise']).includes(network)),
    )
    expect(beside.map(([name]) => name).sort()).toEqual(['postgres', 'prometheus', 'redis'])
  })

  it('OPS-4: every network is declared, and every image has a tag or a digest that can be set', () => {
    for (const [name, service] of services) {
      for (const network of networksOf(service)) expect(Object.keys(compose.networks), name).toContain(network)
      const image = service.image ?? service.build?.args?.['NODE_IMAGE'] ?? ''
      expect(image, name).toMatch(/^\$\{[A-Z]+_IMAGE:-[a-z/]+:[a-z]*\d[\w.-]*\}$/)
    }
  })

  it('OPS-4: the node, its database and its Redis say how they are', () => {
    for (const name of ['valise', 'postgres', 'redis']) expect(compose.services[name]?.healthcheck, name).toBeDefined()
  })

  it('OPS-4, WEB-2: Prometheus may ask by the name that it is told', () => {
    const [, host] = /targets: \[([a-z]+):8788\]/.exec(read('ops/prometheus/prometheus.yml')) ?? []
    expect(compose.services['valise']?.environment?.['VALISE_ADMIN_NAMES']).toBe(host)
  })
})

describe('OPS-4: the image', () => {
  const instructions = read('ops/Dockerfile')
    .replace(/^#.*\n/gm, '')
    .replace(/\\\n\s*/g, '')
    .split('\n')
    .filter((line) => line !== '')
  const last = instructions.slice(instructions.findLastIndex((line) => line.startsWith('FROM ')))

  it('OPS-4: both stages stand on one base, of a Node.js with long-term support, whose digest can be given', () => {
    const [, base = ''] = /^ARG NODE_IMAGE=(.*)$/m.exec(instructions.join('\n')) ?? []
    expect(base).toMatch(/^node:(22|24)-/)
    const from = instructions.filter((line) => line.startsWith('FROM '))
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the syntax of the Dockerfile.
    expect(from.map((line) => line.split(' ')[1])).toEqual(['${NODE_IMAGE}', '${NODE_IMAGE}'])
    expect(compose.services['valise']?.build?.args?.['NODE_IMAGE']).toContain(base)
  })

  it('OPS-4: it runs as a user without rights, whose data folder is closed to others', () => {
    const user = last.findLast((line) => line.startsWith('USER '))
    expect(user).toMatch(/^USER [1-9]\d*:[1-9]\d*$/)
    expect(last.join('\n')).toMatch(/install -d -m 700 -o 1000 -g 1000 \/var\/lib\/valise/)
    // What follows runs as that user, and nothing is copied with another owner than root.
    expect(last.indexOf(user ?? '')).toBeGreaterThan(last.findLastIndex((line) => /^(COPY|RUN) /.test(line)))
    for (const line of last.filter((each) => each.startsWith('COPY '))) expect(line).not.toContain('--chown')
  })

  it('OPS-4: every package of the repository is in it, with the list of what it is made of', () => {
    const copied = last.filter((line) => line.startsWith('COPY ')).join('\n')
    const { workspaces }: { workspaces: string[] } = JSON.parse(read('package.json'))
    for (const name of workspaces) expect(copied).toContain(`/valise/${name} ./${name}`)
    expect(copied).toContain('sbom.cdx.json')
    for (const line of last.filter((each) => /^CMD /.test(each))) {
      const [, program]: string[] = JSON.parse(line.slice('CMD '.length))
      expect(existsSync(join(root, program ?? ''))).toBe(true)
    }
  })
})
