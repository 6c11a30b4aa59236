// Checks the handshake model with Maude: no attack on the handshake as it is, the known attacks on weaker ones, and
// honest runs that complete. Installs Maude from Debian when missing. Run: node docs/verification/check.mjs
import { spawnSync } from 'node:child_process'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { foldersOnPathWith } from '../../scripts/command.mjs'
import { installDebianPackage } from '../../scripts/provision.mjs'

const model = fileURLToPath(new URL('./handshake-model.maude', import.meta.url))
const timeoutMs = 60_000

/** Who takes part, beside an attacker who is the network: c a client, s the server, m a server owned by the attacker. */
const casts = {
  'c and s': 'cl0(1, s) sv0(2)',
  'c twice and s': 'cl0(1, s) cl0(3, s) sv0(2)',
  'c and s twice': 'cl0(1, s) sv0(2) sv0(3)',
  'c calls m, s is there': 'cl0(1, m) sv0(2)',
  'c calls m, s is there twice': 'cl0(1, m) sv0(2) sv0(3)',
  'c calls s and m': 'cl0(1, s) cl0(3, m) sv0(2)',
  'c twice and s twice': 'cl0(1, s) cl0(3, s) sv0(2) sv0(4)',
  'c calls s and m, s twice': 'cl0(1, s) cl0(3, m) sv0(2) sv0(4)',
}

/** What an attack is, each with a state made by hand in which the predicate must hold: none of them is empty words. */
const attacks = {
  leakS: 'svd(1, c, n(0))', // the attacker knows a key that s shares with c
  leakC: 'cld(1, s, n(0))', // the attacker knows a key that c shares with s
  authC: 'svd(1, c, n(1))', // s accepted c, who never agreed to that key and peer
  authS: 'cld(1, s, n(1))', // c accepted s, who does not hold that key
  dup: 'svd(1, c, n(1)) svd(2, c, n(1))', // one run of c accepted twice
  uks: 'cld(1, m, n(1)) svd(2, c, n(1))', // c believes to share with m what it shares with s
}

/** The smallest cast in which each weakened variant falls, and how. */
const knownAttacks = [
  { variant: 'orig', cast: 'c and s', attack: 'authS' },
  { variant: 'orig', cast: 'c and s', attack: 'authC' },
  { variant: 'orig', cast: 'c and s', attack: 'leakS' },
  { variant: 'orig', cast: 'c calls m, s is there', attack: 'uks' },
  { variant: 'noeph', cast: 'c and s', attack: 'authS' },
  { variant: 'noeph', cast: 'c and s', attack: 'authC' },
  { variant: 'noeph', cast: 'c and s', attack: 'leakS' },
  { variant: 'nosid', cast: 'c calls m, s is there', attack: 'uks' },
  { variant: 'nosid', cast: 'c calls m, s is there', attack: 'authC' },
  { variant: 'noenc', cast: 'c and s', attack: 'shown' },
]

/** While c calls s only, nobody else learns who is calling. (A server owned by the attacker is told, of course.) */
const castsWithoutM = Object.keys(casts).filter((cast) => !cast.includes('m'))

const variants = ['full', 'orig', 'nosid', 'noeph', 'nofin', 'noenc']

/** Each check: what it claims, the Maude command, and the answer that proves it. */
export function listChecks() {
  const anyAttack = Object.keys(attacks)
    .map((attack) => `${attack}(C:Conf)`)
    .join(' or ')
  return [
    ...Object.entries(attacks).map(([attack, state]) => ({
      claim: `${attack} can be told when it is there`,
      command: `reduce in HS : ${attack}(< full | ${state} | k0 >) .`,
      proof: /^result Bool: true$/m,
    })),
    {
      claim: 'shown can be told when it is there',
      command: 'reduce in HS : shown(< full | none | k0 , sig(c, n(0)) >) .',
      proof: /^result Bool: true$/m,
    },
    ...variants.map((variant) => ({
      claim: `${variant}: an honest run completes, and both hold one key`,
      command: `search [1] in HS : < ${variant} | ${casts['c and s']} | k0 > =>* < ${variant} | cld(1, s, M) svd(2, c, M) | K > .`,
      proof: /^Solution 1 /m,
    })),
    ...knownAttacks.map(({ variant, cast, attack }) => ({
      claim: `${variant}: ${attack} is found, ${cast}`,
      command: `search [1] in HS : < ${variant} | ${casts[cast]} | k0 > =>* C:Conf such that ${attack}(C:Conf) .`,
      proof: /^Solution 1 /m,
    })),
    ...Object.entries(casts).map(([cast, state]) => ({
      claim: `full: no attack, ${cast}`,
      command: `search [1] in HS : < full | ${state} | k0 > =>* C:Conf such that ${anyAttack} .`,
      proof: /^No solution\.$/m,
    })),
    ...castsWithoutM.map((cast) => ({
      claim: `full: nobody learns who is calling, ${cast}`,
      command: `search [1] in HS : < full | ${casts[cast]} | k0 > =>* C:Conf such that shown(C:Conf) .`,
      proof: /^No solution\.$/m,
    })),
    // Some of what the handshake has is a second lock on the same door: without it the model finds no attack either.
    ...['nofin', 'noenc'].map((variant) => ({
      claim: `${variant}: no attack in this model, c calls s and m`,
      command: `search [1] in HS : < ${variant} | ${casts['c calls s and m']} | k0 > =>* C:Conf such that ${anyAttack} .`,
      proof: /^No solution\.$/m,
    })),
  ]
}

/** Runs every check in one Maude: a list of { claim, isProven, answer }. Throws when Maude cannot be had or fails. */
export function checkModel() {
  const checks = listChecks()
  const input = checks.map(({ command }) => command).join('\n')
  const maude = spawnSync(findMaude(), ['-no-banner', '-no-advise', model], {
    input: `${input}\nquit\n`,
    encoding: 'utf8',
    timeout: timeoutMs,
    maxBuffer: 16 << 20,
  })
  if (maude.error) throw new Error(`Maude gave no answer within ${timeoutMs / 1000} s: ${maude.error.message}`)
  if (maude.stderr.trim()) throw new Error(`Maude has something to say about the model:\n${maude.stderr.trim()}`)
  const answers = maude.stdout.split(/^=+\n/m).slice(1)
  return checks.map(({ claim, proof }, index) => {
    const answer = (answers[index] ?? '').trim()
    return { claim, isProven: proof.test(answer), answer }
  })
}

function findMaude() {
  if (foldersOnPathWith('maude').length === 0) {
    const reason = installDebianPackage('maude')
    if (reason) throw new Error(`the program maude is not on PATH, and apt-get install maude: ${reason}`)
  }
  return 'maude'
}

function printResults() {
  const results = checkModel()
  for (const { claim, isProven, answer } of results) {
    console.log(`${isProven ? 'ok    ' : 'WRONG '} ${claim}`)
    if (!isProven) console.log(answer)
  }
  const wrong = results.filter(({ isProven }) => !isProven).length
  console.log(`${results.length - wrong} proven, ${wrong} wrong`)
  return wrong === 0 ? 0 : 1
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) process.exitCode = printResults()
