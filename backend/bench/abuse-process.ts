// The abuser, as a process of its own, so that it shares neither the loop of the server nor that of whoever measures.

import { ABUSE_KINDS } from './abuse-kinds.ts'

export interface AbuseOrder {
  readonly kind: string
  readonly url: string
  readonly fingerprint: string
  readonly connections: number
}

export type AbuseReport =
  | { readonly type: 'ready' | 'stopped'; readonly sent: number }
  | { readonly type: 'failed'; readonly reason: string }

const report = (message: AbuseReport): void => void process.send?.(message)

async function run({ kind, url, fingerprint, connections }: AbuseOrder): Promise<void> {
  let isStopped = false
  let sent = 0
  let begin = (): void => undefined
  const begun = new Promise<void>((resolve) => {
    begin = resolve
  })
  process.on('message', (word: 'begin' | 'stop') => {
    if (word === 'begin') begin()
    else isStopped = true
  })
  const prepare = ABUSE_KINDS[kind]
  if (prepare === undefined) throw new Error(`no abuse is called ${kind}`)
  const abuse = await prepare({
    server: { url, fingerprint: Buffer.from(fingerprint, 'hex') },
    connections,
    isStopped: () => isStopped,
    count: (count) => {
      sent += count
    },
  })
  report({ type: 'ready', sent: 0 })
  await begun
  const end = abuse()
  await Promise.race([end, new Promise<void>((resolve) => void untilStopped(() => isStopped).then(resolve))])
  report({ type: 'stopped', sent })
}

async function untilStopped(isStopped: () => boolean): Promise<void> {
  while (!isStopped()) await new Promise((resolve) => setTimeout(resolve, 50))
}

process.on('disconnect', () => process.exit(0))
const [order = '{}'] = process.argv.slice(2)
run(JSON.parse(order)).then(
  () => process.exit(0),
  (error: unknown) => {
    report({ type: 'failed', reason: error instanceof Error ? `${error.message}\n${error.stack}` : 'unknown' })
    process.exit(1)
  },
)
