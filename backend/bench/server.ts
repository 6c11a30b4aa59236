// The server under test, as a process of its own: `runServer` as the command line starts it, and answers to the
// benchmark's questions about its CPU time and memory. It ends when the benchmark does.

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { runServer } from '@valise/backend'

export interface Usage {
  /** Of all threads, user and system, since the process began. */
  readonly cpuMs: number
  readonly rssBytes: number
  readonly heapBytes: number
}

export type ServerReport =
  | { readonly type: 'listening'; readonly url: string; readonly adminUrl: string; readonly fingerprint: string }
  | { readonly type: 'failed'; readonly reason: string }
  | ({ readonly type: 'usage' } & Usage)

export type ServerQuestion = 'usage' | 'usage_after_collection'

const report = (message: ServerReport): void => {
  process.send?.(message)
}

const collectGarbage = (): void => {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
}

process.on('message', (question: ServerQuestion) => {
  if (question === 'usage_after_collection') collectGarbage()
  const { user, system } = process.cpuUsage()
  const { rss, heapUsed, external } = process.memoryUsage()
  report({ type: 'usage', cpuMs: (user + system) / 1000, rssBytes: rss, heapBytes: heapUsed + external })
})
process.on('disconnect', () => process.kill(process.pid, 'SIGTERM'))

process.exitCode = await runServer({
  flags: {},
  isJson: true,
  print: (line) => {
    const { url, admin_url: adminUrl, fingerprint } = JSON.parse(line)
    report({ type: 'listening', url, adminUrl, fingerprint })
  },
  printError: (reason) => report({ type: 'failed', reason }),
})
process.removeAllListeners('disconnect')
if (process.connected) process.disconnect()
