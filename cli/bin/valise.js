#!/usr/bin/env node
import { existsSync } from 'node:fs'

const program = new URL('../dist/main.js', import.meta.url)
if (existsSync(program)) await import(program.href)
else {
  console.error('Valise is not built yet. Expected `npm start` or `npm run build` before, in the folder of the clone.')
  process.exitCode = 1
}
