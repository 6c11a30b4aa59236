// A node as a process of its own, from what is built: node serve-node.mjs FLAGS, where FLAGS is JSON by variable.

import { runServer } from '@valise/backend'

const flags = JSON.parse(process.argv[2] ?? '{}')
const exitCode = await runServer({
  flags,
  isJson: true,
  print: (line) => process.stdout.write(`${line}\n`),
  printError: (line) => process.stderr.write(`${line}\n`),
})
process.exit(exitCode)
