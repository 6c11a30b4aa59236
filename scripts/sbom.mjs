// What the server and the command line are made of, as a CycloneDX document of their production dependencies:
//   node scripts/sbom.mjs [FILE]     writes it into FILE, or to standard output
// `npm sbom --omit dev` leaves out what a development dependency needs too, so the whole list is made and what the lock
// file marks as development is taken out here.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { capture, root } from './command.mjs'

/** Keeps the packages of this repository and what they need to run. Throws when the lock file names one that is missing. */
export function keepProduction(bom, lock) {
  const wanted = productionRefs(lock)
  const isWanted = (ref) => wanted.has(ref)
  const components = bom.components.filter((component) => isWanted(component['bom-ref'])).map(nameByPurl)
  const found = new Set(components.map((component) => component['bom-ref']))
  const missing = [...wanted].filter((ref) => !found.has(ref))
  if (missing.length > 0) throw new Error(`npm sbom does not name ${missing.join(', ')}`)
  const { component } = bom.metadata
  const isKept = (ref) => isWanted(ref) || ref === component['bom-ref']
  return {
    ...bom,
    metadata: { ...bom.metadata, component: nameByPurl(component) },
    components,
    dependencies: bom.dependencies
      .filter(({ ref }) => isKept(ref))
      .map(({ ref, dependsOn = [] }) => ({ ref, dependsOn: dependsOn.filter(isKept) })),
  }
}

/** `name@version` of each, as npm refers to them. */
export function productionRefs({ packages }) {
  const refs = Object.entries(packages).flatMap(([path, { name, version, dev, link }]) =>
    path === '' || dev || link ? [] : [`${name ?? path.split('node_modules/').at(-1)}@${version}`],
  )
  return new Set(refs)
}

/** npm names a package of this repository by its folder, wherever that was cloned to. */
function nameByPurl(component) {
  const [, name] = /^pkg:npm\/(.+)@[^@]+$/.exec(component.purl) ?? []
  return name === undefined ? component : { ...component, name: decodeURIComponent(name) }
}

export function makeSbom() {
  const args = ['sbom', '--sbom-format', 'cyclonedx', '--package-lock-only']
  const { exitCode, output } = capture('npm', args, { cwd: root })
  if (exitCode !== 0 || !output.startsWith('{')) throw new Error(`npm sbom ended with ${exitCode}:\n${output}`)
  return keepProduction(JSON.parse(output), JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')))
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const text = `${JSON.stringify(makeSbom(), null, 2)}\n`
  const file = process.argv[2]
  if (file === undefined) process.stdout.write(text)
  else writeFileSync(file, text)
}
