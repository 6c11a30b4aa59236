// Every TypeScript example in the documents compiles: each ```ts block of README.md, docs/*.md and backend/docs/*.md
// is checked as a module of its own against the packages' public names.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { capture, programs, root } from './command.mjs'

const folder = join(root, 'test-results/doc-examples') // inside the repository, so that the packages are found
const fence = /^```ts\n([\s\S]*?)^```$/gm

/** { count, exitCode, output }; the compiler's complaints name the document and its line. */
export function checkDocExamples() {
  rmSync(folder, { recursive: true, force: true })
  const examples = listDocuments().flatMap(readExamples)
  if (examples.length === 0) return { count: 0, exitCode: 0, output: '' }

  mkdirSync(folder, { recursive: true })
  for (const { name, text } of examples) writeFileSync(join(folder, name), text)
  const compilerOptions = {
    rootDir: '../..',
    moduleDetection: 'force',
    noUnusedLocals: false,
    incremental: false,
    tsBuildInfoFile: null,
  }
  const config = { extends: '../../tsconfig.tests.json', compilerOptions, include: ['*.ts'] }
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(config))
  const { exitCode, output } = capture(process.execPath, [programs.tsc, '-p', folder])
  return { count: examples.length, exitCode, output: nameDocuments(output, examples) }
}

function listDocuments() {
  const inFolder = (name) =>
    existsSync(join(root, name)) ? readdirSync(join(root, name)).map((file) => join(name, file)) : []
  return ['README.md', ...inFolder('docs'), ...inFolder('backend/docs')].filter(
    (file) => file.endsWith('.md') && existsSync(join(root, file)),
  )
}

/** Empty lines before the example put it on the line it has in the document. */
function readExamples(document) {
  const text = readFileSync(join(root, document), 'utf8')
  return [...text.matchAll(fence)].map((match) => {
    const linesBefore = text.slice(0, match.index).split('\n').length
    const name = `${document.replace(/[^a-zA-Z0-9]/g, '-')}-${linesBefore}.ts`
    return { document, name, text: `${'\n'.repeat(linesBefore)}${match[1]}` }
  })
}

function nameDocuments(output, examples) {
  return examples.reduce(
    (text, { document, name }) => text.replaceAll(`test-results/doc-examples/${name}`, document),
    output,
  )
}
