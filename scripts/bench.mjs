// `npm run bench [-- name arguments]`: builds and runs backend/bench/<name>.ts (run.ts when no name is given), with
// PostgreSQL and Redis of its own under the variables the tests know. The built code is plain JavaScript, as shipped.
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { capture, programs, root, runAttached } from './command.mjs'
import { endWithNpm } from './parent.mjs'
import { prepare } from './prepare.mjs'
import { provideServices } from './services.mjs'

const sources = join(root, 'backend/bench')
const built = join(root, 'backend/dist-bench/backend/bench')

process.exitCode = await main(process.argv.slice(2))

async function main(args) {
  const isNamed = args[0] !== undefined && !args[0].startsWith('-')
  const name = isNamed ? args[0] : 'run'
  if (!existsSync(join(sources, `${name}.ts`))) {
    console.error(`No benchmark is called ${name}. There are: ${listNames().join(', ') || 'none'}.`)
    return 2
  }
  try {
    prepare()
    buildBenchmarks()
    return await runBenchmark(name, isNamed ? args.slice(1) : args)
  } catch (error) {
    console.error(error.message)
    return 1
  }
}

function listNames() {
  if (!existsSync(sources)) return []
  return readdirSync(sources)
    .filter((file) => file.endsWith('.ts'))
    .map((file) => file.slice(0, -'.ts'.length))
}

function buildBenchmarks() {
  const { exitCode, output } = capture(process.execPath, [programs.tsc, '-p', sources])
  if (exitCode !== 0) throw new Error(`The benchmarks do not compile.\n${output}`)
}

async function runBenchmark(name, args) {
  endWithNpm()
  const services = await provideServices({ isLocal: true })
  try {
    const { child, ended } = runAttached(process.execPath, [join(built, `${name}.js`), ...args], {
      env: { ...process.env, ...services.env },
    })
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
    return await ended
  } finally {
    await services.close()
  }
}
