// Runs a TypeScript file from the sources in a process of its own: node run-typescript.mjs FILE [arguments].
import { runnerImport } from 'vite'

const [file] = process.argv.splice(2, 1)
await runnerImport(file, {
  configFile: false,
  logLevel: 'error',
  resolve: { conditions: ['source'] },
  ssr: { resolve: { conditions: ['source'], externalConditions: ['source'] }, noExternal: [/^@valise\//] },
})
