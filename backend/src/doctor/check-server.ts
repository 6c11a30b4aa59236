// The ports, and the server that runs on them if one does: whether it is alive and ready, whether it is the server of
// this identity key, and its clock.

import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { serverFingerprint, toBase64Url } from '@valise/protocol'
import { nodeCrypto } from '@valise/protocol/node-crypto'
import { z } from 'zod'
import { adminUrlOf, type Config } from '../config.ts'
import { closeServer, formatHost, listen } from '../http/listen.ts'
import { parseIdentity } from '../keys/identity-file.ts'
import { parseStatus } from '../status/status.ts'
import { checkClock } from './check-clock.ts'
import { codeOf, type Finding, findingsOf, messageOf } from './finding.ts'

const findings = findingsOf('server')
const { ok, note, wrong } = findings
const TIMEOUT_MS = 3000

const identitySchema = z.object({ fingerprint: z.string() })
const readySchema = z.object({ problems: z.array(z.string()), notes: z.array(z.string()) })

export async function checkServer(config: Config): Promise<Finding[]> {
  const publicPort = await tryPort(config.port, config.host)
  const adminPort = await tryPort(config.adminPort, config.adminHost)
  const publicFindings =
    publicPort === 'in_use' ? await askPublicPort(config) : [describePort('public', config.port, publicPort)]
  const adminFindings =
    adminPort === 'in_use' ? await askAdminPort(config) : [describePort('admin', config.adminPort, adminPort)]
  return [...publicFindings, ...adminFindings]
}

type PortState = 'free' | 'in_use' | { readonly refusal: string }

async function tryPort(port: number, host: string): Promise<PortState> {
  const server = createServer()
  try {
    await listen(server, port, host)
    await closeServer(server)
    return 'free'
  } catch (error) {
    if (codeOf(error) === 'EADDRINUSE') return 'in_use'
    if (codeOf(error) === 'EACCES') return { refusal: 'this user may not use it' }
    if (codeOf(error) === 'EADDRNOTAVAIL') return { refusal: 'this machine does not have its address' }
    return { refusal: messageOf(error) }
  }
}

function describePort(name: 'public' | 'admin', port: number, state: Exclude<PortState, 'in_use'>): Finding {
  if (state === 'free') return ok(`the ${name} port ${port} is free; no server of this configuration runs`)
  const variables = name === 'public' ? '--host and --port (HOST, PORT)' : '--admin-port (ADMIN_HOST, ADMIN_PORT)'
  return wrong(`the ${name} port ${port} cannot be used: ${state.refusal}`, `choose another with ${variables}`)
}

async function askPublicPort(config: Config): Promise<Finding[]> {
  const { port, host, identityFile } = config
  const base = adminUrlOf({ adminHost: host, adminPort: port })
  const answer = await ask(`${base}/.well-known/valise`)
  const identity = identitySchema.safeParse(answer?.json)
  if (answer === undefined || !identity.success) {
    return [
      wrong(
        `the public port ${port} of ${formatHost(host)} is in use by another program`,
        'end that program, or choose another port with --port (PORT)',
      ),
    ]
  }
  const expected = await readFingerprint(identityFile)
  const isOurs = expected === undefined || expected === identity.data.fingerprint
  return [
    ok(`a Valise server answers on the public port ${port}`),
    isOurs
      ? ok(
          `its fingerprint is ${expected === undefined ? 'not compared: the identity key cannot be read from here' : 'that of the identity key'}`,
        )
      : wrong(
          `it has another fingerprint than the identity key ${identityFile}`,
          'all nodes of one server share one key: set VALISE_IDENTITY_FILE, or --data, as that server has it',
        ),
    // The Date header counts whole seconds.
    ...(answer.dateMs === undefined
      ? []
      : [checkClock(findings, 'that server', { ...answer, theirsMs: answer.dateMs, resolutionMs: 1000 })]),
  ]
}

async function askAdminPort(config: Config): Promise<Finding[]> {
  const base = adminUrlOf(config)
  const [live, ready, status] = await Promise.all([
    ask(`${base}/live`),
    ask(`${base}/ready`),
    ask(`${base}/status.json`),
  ])
  const readiness = readySchema.safeParse(ready?.json)
  if (live?.status !== 200 || !readiness.success) {
    return [
      wrong(
        `the admin port ${config.adminPort} is in use by another program, or its server hangs`,
        'end that program, or choose another port with --admin-port (ADMIN_PORT)',
      ),
    ]
  }
  const { problems, notes } = readiness.data
  const facts = parseStatus(status?.json)
  return [
    ok(`the server is live${facts === undefined ? '' : `, version ${printable(facts.server.version)}`}`),
    ...(problems.length === 0 ? [ok('it is ready')] : []),
    ...problems.map((text) => wrong(`it is not ready: ${printable(text)}`, remedyOf(text))),
    ...notes.map((text) => note(printable(text), remedyOf(text))),
  ]
}

function remedyOf(reason: string): string {
  if (reason.startsWith('database')) return 'see what is said of the database above'
  if (reason.startsWith('storage')) return 'make room, as docs/OPERATIONS.md says under ValiseStorageLow'
  if (reason.startsWith('bus')) return 'see what is said of Redis above'
  if (reason.startsWith('draining')) return 'it is being stopped; start it again when it has ended'
  return 'do as it says'
}

interface HttpAnswer {
  readonly status: number
  readonly json: unknown
  readonly dateMs: number | undefined
  readonly beforeMs: number
  readonly afterMs: number
}

/** `undefined` when nothing answers in time, or no JSON. */
async function ask(url: string): Promise<HttpAnswer | undefined> {
  const beforeMs = Date.now()
  try {
    const response = await fetch(url, { redirect: 'error', signal: AbortSignal.timeout(TIMEOUT_MS) })
    const afterMs = Date.now()
    const dateMs = Date.parse(response.headers.get('date') ?? '')
    const json: unknown = await response.json()
    return { status: response.status, json, dateMs: Number.isNaN(dateMs) ? undefined : dateMs, beforeMs, afterMs }
  } catch {
    return undefined
  }
}

async function readFingerprint(identityFile: string): Promise<string | undefined> {
  const text = await readFile(identityFile, 'utf8').catch(() => undefined)
  const record = text === undefined ? undefined : parseIdentity(text)
  if (record === undefined) return undefined
  const signer = nodeCrypto.createSigner(record.seed)
  record.seed.fill(0)
  return toBase64Url(serverFingerprint(nodeCrypto, signer.publicKey))
}

const printable = (text: string): string => text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, '?')
