// Makes protocol/tests/public-vectors from a folder of published test vectors:
//   node scripts/vector-figures.mjs [FOLDER]      (default: VALISE_VECTORS, else ../shared/vectors)
// Only figures are kept, and only those that a test reads: inputs, outputs and validity. Comments, notes and flags are
// not. One file a set, one test a line, plus a README with source and licence of each set and the digests of all files.
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { gunzipSync } from 'node:zlib'
import { root } from './command.mjs'

export const figuresFolder = join(root, 'protocol/tests/public-vectors')
export const vectorsFolder = resolve(process.env['VALISE_VECTORS'] ?? join(root, '../shared/vectors'))
export const digestsFile = 'digests.json'

const wycheproof = {
  source: 'Project Wycheproof, testvectors_v1 (github.com/C2SP/wycheproof)',
  licence: 'Apache-2.0',
}
const ietf = (document) => ({
  source: document,
  licence: 'Revised BSD, as a code component of an IETF document (IETF Trust Legal Provisions, section 4)',
})

const aead = ['tcId', 'key', 'iv', 'aad', 'msg', 'ct', 'tag', 'result']
const testsOf = ({ testGroups }) => testGroups.flatMap(({ tests, ...group }) => tests.map((test) => ({ group, test })))
const everyTest = (vectors) => testsOf(vectors).map(({ test }) => test)

/** `select` gives the kept tests as objects that have every column. */
const sets = [
  {
    name: 'aes-gcm',
    from: 'wycheproof_aes_gcm.json',
    ...wycheproof,
    kept: 'keys of 256 and nonces of 96 bits',
    columns: aead,
    select: (vectors) =>
      testsOf(vectors)
        .filter(({ group }) => group.keySize === 256 && group.ivSize === 96)
        .map(({ test }) => test),
  },
  {
    name: 'chacha20-poly1305',
    from: 'wycheproof_chacha20_poly1305.json',
    ...wycheproof,
    kept: 'all tests',
    columns: aead,
    select: everyTest,
  },
  {
    name: 'xchacha20-poly1305',
    from: 'wycheproof_xchacha20_poly1305.json',
    ...wycheproof,
    kept: 'all tests',
    columns: aead,
    select: everyTest,
  },
  {
    name: 'hmac-sha256',
    from: 'wycheproof_hmac_sha256.json',
    ...wycheproof,
    kept: 'all tests; the length of a tag is that of its group',
    columns: ['tcId', 'key', 'msg', 'tag', 'result'],
    select: everyTest,
  },
  {
    name: 'hkdf-sha256',
    from: 'wycheproof_hkdf_sha256.json',
    ...wycheproof,
    kept: 'all tests',
    columns: ['tcId', 'ikm', 'salt', 'info', 'size', 'okm', 'result'],
    select: everyTest,
  },
  {
    name: 'x25519',
    from: 'wycheproof_x25519.json',
    ...wycheproof,
    kept: 'all tests',
    columns: ['tcId', 'public', 'private', 'shared', 'result'],
    select: everyTest,
  },
  {
    name: 'ed25519',
    from: 'wycheproof_ed25519.json',
    ...wycheproof,
    kept: 'all tests, each with the public key of its group',
    columns: ['tcId', 'pk', 'msg', 'sig', 'result'],
    select: (vectors) => testsOf(vectors).map(({ group, test }) => ({ ...test, pk: group.publicKey.pk })),
  },
  {
    name: 'hpke',
    from: 'rfc9180_vectors.json.gz',
    ...ietf('RFC 9180, test-vectors.json (github.com/cfrg/draft-irtf-cfrg-hpke)'),
    kept: 'base mode, X25519, HKDF-SHA256, AES-256-GCM; the first encryption',
    columns: ['info', 'ikmE', 'skRm', 'pkRm', 'enc', 'aad', 'ct', 'pt'],
    select: (vectors) =>
      vectors
        .filter(({ mode, kem_id, kdf_id, aead_id }) => mode === 0 && kem_id === 0x20 && kdf_id === 1 && aead_id === 2)
        .map(({ encryptions: [{ aad, ct, pt }], ...vector }) => ({ ...vector, aad, ct, pt })),
  },
  {
    name: 'x-wing',
    from: 'xwing_MLKEM768X25519.json',
    ...ietf(
      'draft-irtf-cfrg-concrete-hybrid-kems, MLKEM768-X25519 (github.com/cfrg/draft-irtf-cfrg-concrete-hybrid-kems)',
    ),
    kept: 'all tests',
    columns: ['seed', 'randomness', 'pk', 'sk', 'ct', 'ss'],
    select: (vectors) => vectors,
  },
  {
    name: 'cpace',
    from: 'cpace_draft_testvectors.json',
    ...ietf('draft-irtf-cfrg-cpace, testvectors.json (github.com/cfrg/draft-irtf-cfrg-cpace)'),
    kept: 'ristretto255 with SHA-512: one run, one valid point and two invalid ones',
    columns: 'PRS CI sid g ya ADa Ya yb ADb Yb K ISK_IR s X product invalid1 invalid2'.split(' '),
    select: ({ G_Coffee25519: run, G_Coffee25519_points: { Valid: valid, ...points } }) => [
      {
        ...run,
        s: valid.s,
        X: valid.X,
        product: valid['G.scalar_mult_vfy(s,X)'],
        invalid1: points['Invalid Y1'],
        invalid2: points['Invalid Y2'],
      },
    ],
  },
]

/** The files of public-vectors, by name. Throws when a vector lacks a column, or a column holds no figure. */
export function makeFigures(folder) {
  const files = new Map(
    sets.map((set) => {
      const bytes = readFileSync(join(folder, set.from))
      const vectors = JSON.parse((set.from.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8'))
      return [`${set.name}.json`, formatSet(set, vectors)]
    }),
  )
  files.set('README.md', describeSets())
  const digests = Object.fromEntries([...files].map(([name, text]) => [name, sha256(text)]))
  return files.set(digestsFile, `${JSON.stringify(digests, null, 2)}\n`)
}

export const sha256 = (text) => createHash('sha256').update(text).digest('hex')

/** Numbers, hexadecimal text and the three verdicts: nothing of a vector's prose can be one of these. */
export const isFigure = (value) => Number.isInteger(value) || /^([0-9a-f]{2})*$|^(in)?valid$|^acceptable$/i.test(value)

function formatSet({ name, source, licence, columns, select }, vectors) {
  const rows = select(vectors).map((test) => columns.map((column) => test[column]))
  if (rows.length === 0 || !rows.flat().every(isFigure)) throw new Error(`${name}: not every value is a figure`)
  const lines = rows.map((row) => JSON.stringify(row)).join(',\n')
  return `${JSON.stringify({ source, licence, columns }).slice(0, -1)},"rows":[\n${lines}\n]}\n`
}

function describeSets() {
  const rows = sets.map(({ name, source, licence, kept }) => `| \`${name}.json\` | ${source} | ${licence} | ${kept} |`)
  return `# Figures of published test vectors

\`node scripts/vector-figures.mjs FOLDER\` makes this folder from the published files; do not edit it. Each file holds one test a line, in the order of
its \`columns\`. Only inputs, outputs and validity are kept, none of the text that came with them. \`digests.json\` has the SHA-256 of each file.

| file | source | licence | kept |
|---|---|---|---|
${rows.join('\n')}
`
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const files = makeFigures(resolve(process.argv[2] ?? vectorsFolder))
  rmSync(figuresFolder, { recursive: true, force: true })
  mkdirSync(figuresFolder, { recursive: true })
  for (const [name, text] of files) writeFileSync(join(figuresFolder, name), text)
}
