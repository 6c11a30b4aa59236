// Traces cost a server nothing until they go somewhere: not even the code that makes them is loaded.

import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { startServer } from './support/server.ts'
import { cleanUp, makeFolder } from './support/valise.ts'

afterAll(cleanUp)

const dataUrl = (source: string): string => `data:text/javascript,${encodeURIComponent(source)}`

/** The modules of OpenTelemetry that a server has loaded when it listens. */
async function loadedBy(environment: Readonly<Record<string, string>>): Promise<string[]> {
  const folder = makeFolder()
  const file = join(folder, 'loaded')
  const hooks = `
    import { appendFileSync } from 'node:fs'
    export async function resolve(specifier, context, next) {
      if (specifier.startsWith('@opentelemetry/')) appendFileSync(${JSON.stringify(file)}, specifier + '\\n')
      return next(specifier, context)
    }`
  const register = `import { register } from 'node:module'; register(${JSON.stringify(dataUrl(hooks))})`
  const server = await startServer(folder, {
    environment: { NODE_OPTIONS: `--import=${dataUrl(register)}`, ...environment },
  })
  await server.kill()
  return existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : []
}

it('OPS-1: nothing of OpenTelemetry is loaded until traces have somewhere to go', async () => {
  expect(await loadedBy({})).toEqual([])
  expect(await loadedBy({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' })).not.toEqual([])
})
