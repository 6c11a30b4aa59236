// `npm run bench -- device-log [--entries 10000] [--rounds 5]`: what verifying a full device log costs, without a
// database: from its first entry, as a node does that has never seen it, and as a client does when it starts, out of its
// store on the disk; and on the state that a node keeps, as it stands and with one entry more. Medians, and how long the
// event loop did nothing else. Every second entry adds a device with an X-Wing key, and the next one revokes it and
// starts an epoch.

import { mkdtemp, rm } from 'node:fs/promises'
import { cpus, tmpdir } from 'node:os'
import { join } from 'node:path'
import { performance } from 'node:perf_hooks'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import {
  applyEntry,
  buildAdd,
  buildGenesis,
  buildRevoke,
  type DeviceId,
  type DeviceLogState,
  type DeviceRecord,
  deviceIdOf,
  type EpochStart,
  KEM_X_WING,
  type Signer,
  signDevicePop,
  type UserId,
} from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { openLogBook } from '../../client/src/account/log-book.ts'
import { openFileStore } from '../../client/src/node/file-store.ts'
import { createVerifiedLogs, type VerifiedLogs } from '../src/devices/verified-logs.ts'
import { median } from './median.ts'
import { table, whole } from './report.ts'

const { values: flags } = parseArgs({
  options: { entries: { type: 'string', default: '10000' }, rounds: { type: 'string', default: '5' } },
})
const entryCount = Number(flags.entries)
const rounds = Number(flags.rounds)
const X_WING_KEY_BYTES = 1216
/** More than the state weighs. */
const MAX_WEIGHT = 10 * entryCount + 100

interface Log {
  readonly entries: readonly Uint8Array[]
  readonly heads: readonly Uint8Array[]
  readonly userId: UserId
}

const log = await writeLog()
const { userId } = log
const folder = await mkdtemp(join(tmpdir(), 'valise-bench-'))
const store = await openFileStore(folder)
await (await openLogBook({ store, crypto, userId })).append(log.entries)
const cases: readonly [string, () => Promise<() => Promise<unknown>>][] = [
  ['from its first entry, a node', async () => loading(createNode())],
  ['from its first entry, a client that starts', async () => startClient],
  ['one entry more, on the state that a node keeps', behindByOne],
  ['as it stands, on the state that a node keeps', upToDate],
]
const rows: string[][] = []
for (const [title, prepare] of cases) {
  const durations: number[] = []
  const turns: number[] = []
  for (let round = 0; round < rounds; round++) {
    const { ms, longestTurnMs } = await timed(await prepare())
    durations.push(ms)
    turns.push(longestTurnMs)
  }
  const ms = median(durations)
  rows.push([title, ms.toFixed(ms < 10 ? 3 : 0), ((ms * 1000) / entryCount).toFixed(2), median(turns).toFixed(1)])
}
await store.close()
await rm(folder, { recursive: true })
const [processor] = cpus()
const bytes = log.entries.reduce((sum, { length }) => sum + length, 0)
console.log(
  `Node ${process.versions.node}, ${cpus().length} × ${processor?.model}, ${process.platform} ${process.arch}`,
)
console.log(`${whole(entryCount)} entries, ${whole(bytes / 1000)} KB\n`)
console.log(table(['a log is verified', 'ms', 'µs/entry', 'longest turn, ms'], rows))

/** With the longest that anything else had to wait meanwhile. */
async function timed(work: () => Promise<unknown>) {
  const startedAtMs = performance.now()
  let longestTurnMs = 0
  let endedAtMs: number | undefined
  const working = work().finally(() => {
    endedAtMs = performance.now()
  })
  for (let turnAtMs = startedAtMs; endedAtMs === undefined; ) {
    await nextTurn()
    const nowMs = performance.now()
    longestTurnMs = Math.max(longestTurnMs, nowMs - turnAtMs)
    turnAtMs = nowMs
  }
  await working
  return { ms: endedAtMs - startedAtMs, longestTurnMs }
}

/** A node's verified logs, of a log that grows by hand. */
function createNode(stored = { count: entryCount }): VerifiedLogs {
  return createVerifiedLogs({
    crypto,
    readHead: async () => {
      const head = log.heads[stored.count - 1]
      return head === undefined ? undefined : { seq: stored.count - 1, head }
    },
    readEntries: async (_userId, afterSeq, limit) =>
      log.entries.slice(afterSeq + 1, Math.min(stored.count, afterSeq + 1 + limit)),
    maxWeight: MAX_WEIGHT,
  })
}

function loading(node: VerifiedLogs) {
  return async () => {
    const state = await node.load(userId)
    if (state?.seq !== entryCount - 1) throw new Error(`the log ends at ${state?.seq}`)
  }
}

async function behindByOne() {
  const stored = { count: entryCount - 1 }
  const node = createNode(stored)
  await node.load(userId)
  stored.count = entryCount
  return loading(node)
}

async function upToDate() {
  const node = createNode()
  await node.load(userId)
  return loading(node)
}

async function startClient() {
  const { state } = await openLogBook({ store, crypto, userId })
  if (state?.seq !== entryCount - 1) throw new Error(`the log ends at ${state?.seq}`)
}

async function writeLog(): Promise<Log> {
  const entries: Uint8Array[] = []
  const heads: Uint8Array[] = []
  const take = (before: DeviceLogState | undefined, entry: Uint8Array): DeviceLogState => {
    const applied = applyEntry(crypto, before, entry)
    if (!applied.ok) throw new Error(`entry ${entries.length} breaks the rule ${applied.rule}`)
    entries.push(entry)
    heads.push(applied.state.head)
    return applied.state
  }
  const manager = createDevice('manager')
  const timeMs = Date.now()
  const author = { signer: manager.signer, deviceId: manager.deviceId, timeMs }
  let state = take(
    undefined,
    await buildGenesis(crypto, {
      signer: manager.signer,
      timeMs,
      nonce: crypto.randomBytes(32),
      manager: manager.record,
      recovery: undefined,
      epoch: startEpoch(1, manager),
    }),
  )
  while (entries.length < entryCount) {
    const device = createDevice('member')
    const proof = await signDevicePop(device.signer, state.userId, device.record)
    state = take(
      state,
      await buildAdd(state, author, { record: device.record, boxHash: crypto.randomBytes(32), proof }),
    )
    if (entries.length === entryCount) break
    const cut = { deviceId: device.deviceId, lastSeq: 1, chain: crypto.randomBytes(32) }
    const epoch = startEpoch(state.epoch.n + 1, manager)
    state = take(state, await buildRevoke(state, author, { devices: [cut], reason: 0, epoch }))
  }
  return { entries, heads, userId: state.userId }
}

/** Nobody opens anything here, so what is sealed, and to which key, may be any bytes. */
function createDevice(role: 'manager' | 'member') {
  const signer: Signer = crypto.createSigner(crypto.randomBytes(32))
  const kemPub = crypto.randomBytes(X_WING_KEY_BYTES)
  const record: DeviceRecord = { role, edPub: signer.publicKey, kemId: KEM_X_WING, kemPub }
  return { signer, record, deviceId: deviceIdOf(crypto, record) }
}

function startEpoch(n: number, { deviceId }: { readonly deviceId: DeviceId }): EpochStart {
  return {
    n,
    commit: crypto.randomBytes(32),
    members: [{ deviceId, boxHash: crypto.randomBytes(32) }],
    links: n === 1 ? [] : [{ n: n - 1, boxHash: crypto.randomBytes(32) }],
  }
}
