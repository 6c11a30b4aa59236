// The arrows of the house: which part may know which. Checked by `npm run verify` and by tests/house.test.ts,
// which also shows for every rule here that it bites.
const anyPackage = '^(protocol|backend|client|cli)/'
const theDoors = '^(protocol/src/(index|node-crypto)|backend/src/index|client/src/(node/)?index)\\.ts$'
/** The commands of whoever runs a server. */
const operatorCommands = '^cli/src/operator/'

const forbidden = [
  {
    name: 'protocol-stands-alone',
    comment: 'What both sides agree on knows neither side.',
    from: { path: '^protocol/src/' },
    to: { path: '^(backend|client|cli)/' },
  },
  {
    name: 'protocol-is-portable',
    comment: 'No I/O: it runs in a browser as in Node. The one exception is the port over node:crypto.',
    from: { path: '^protocol/src/', pathNot: '^protocol/src/node-crypto\\.ts$' },
    to: { dependencyTypes: ['core'] },
  },
  {
    name: 'backend-knows-only-protocol',
    from: { path: '^backend/src/' },
    to: { path: '^(client|cli)/' },
  },
  {
    name: 'backend-is-blind',
    comment: 'Nothing that opens sealed content may be reached from the server, by whatever way round.',
    from: { path: '^backend/src/' },
    to: { reachable: true, path: ['node_modules/(@noble|@hpke|@scure)/', 'node_modules/mlkem/', '^client/'] },
  },
  {
    name: 'every-query-is-counted',
    comment: 'Who asks a database goes through the door that counts and times what is asked.',
    from: { path: anyPackage, pathNot: '^backend/src/db/(postgres|connection-pool|pglite|activity-reader)\\.ts$' },
    to: { path: 'node_modules/(@types/)?(pg|pg-pool|@electric-sql)/' },
  },
  {
    name: 'client-knows-only-protocol',
    from: { path: '^client/src/' },
    to: { path: '^(backend|cli)/' },
  },
  {
    name: 'client-core-is-portable',
    comment: 'What needs Node stands in client/src/node/; all else runs in a browser.',
    from: { path: '^client/src/', pathNot: '^client/src/node/' },
    to: { dependencyTypes: ['core'] },
  },
  {
    name: 'client-core-reaches-no-node-part',
    from: { path: '^client/src/', pathNot: '^client/src/node/' },
    to: { path: ['^client/src/node/', 'node_modules/(ws|classic-level)/', '^protocol/src/node-crypto\\.ts$'] },
  },
  {
    name: 'only-operators-know-the-backend',
    from: { path: '^cli/', pathNot: operatorCommands },
    to: { path: '^backend/' },
  },
  ...['protocol', 'backend', 'client', 'cli'].map((name) => ({
    name: `through-the-door-from-${name}`,
    comment: 'Another package is imported by its public names only.',
    from: { path: `^${name}/` },
    to: { path: anyPackage, pathNot: [`^${name}/`, theDoors] },
  })),
  {
    name: 'door-from-outside-only',
    comment: 'Inside a package the file itself is imported; the door would close a circle.',
    from: { path: '^(protocol|backend|client)/src/' },
    to: { path: '^(protocol|backend|client)/src/index\\.ts$', dependencyTypes: ['local'] },
  },
  {
    name: 'limits-stand-below',
    comment: 'What may be used up is decided without knowing who serves it.',
    from: { path: '^backend/src/limits/' },
    to: { path: '^backend/src/', pathNot: '^backend/src/limits/' },
  },
  { name: 'no-cycles', from: { path: anyPackage }, to: { circular: true } },
  { name: 'no-unresolvable', from: { path: anyPackage }, to: { couldNotResolve: true } },
]

module.exports = {
  forbidden: forbidden.map((rule) => ({ severity: 'error', ...rule })),
  options: {
    // Imports of types count too: who knows another's types knows the other.
    tsPreCompilationDeps: true,
    exclude: { path: `${anyPackage}dist/` },
    moduleSystems: ['es6', 'tsd'],
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['source', 'import', 'node', 'default'],
      extensions: ['.ts', '.js', '.mjs', '.cjs', '.json', '.d.ts'],
      mainFields: ['module', 'main', 'types'],
    },
    cache: false,
  },
}
