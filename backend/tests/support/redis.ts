// A Redis of a test's own: on a free port, keeping nothing on disk, ended by its process. The binary is found on PATH.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { createClient } from '@redis/client'

export interface TestRedis {
  readonly url: string
  readonly port: number
  /** Sends one command on a connection of its own. */
  send(...args: string[]): Promise<unknown>
  /** CLIENT LIST: the connections, each with how many channels it listens on. */
  clients(): Promise<{ id: string; name: string; sub: number }[]>
  /** Ends the process at once; its connections break. */
  kill(): Promise<void>
  /** Kills it if it runs, and starts a new one on the same port. */
  restart(): Promise<void>
  /** Connections stay open and nothing answers, until `resume()`. */
  pause(): void
  resume(): void
  close(): Promise<void>
}

async function findFreePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('no port was assigned')
  return address.port
}

async function startProcess(port: number, folder: string): Promise<ChildProcess> {
  const settings = { port, bind: '127.0.0.1', dir: folder, save: '', appendonly: 'no', daemonize: 'no' }
  const args = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, String(value)])
  const child = spawn('redis-server', args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const said: string[] = []
  const isReady = await new Promise<boolean>((resolve, reject) => {
    child.once('error', (cause) => reject(new Error('redis-server could not be started; is it installed?', { cause })))
    child.once('exit', () => resolve(false))
    createInterface(child.stdout).on('line', (line) => {
      said.push(line)
      if (line.includes('Ready to accept connections')) resolve(true)
    })
  })
  if (!isReady) throw new Error(`redis-server ended at once:\n${said.join('\n')}`)
  return child
}

async function endProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGKILL')
  await exited
}

/** `startsDown` reserves the place only; `restart()` brings it up. */
export async function startRedis(options: { startsDown?: boolean } = {}): Promise<TestRedis> {
  const folder = await mkdtemp(join(tmpdir(), 'valise-redis-'))
  const port = await findFreePort()
  const url = `redis://127.0.0.1:${port}`
  let child = options.startsDown === true ? undefined : await startProcess(port, folder)
  // Also when a test ends without its `close()`.
  const endWithProcess = () => child?.kill('SIGKILL')
  process.once('exit', endWithProcess)

  const send = async (...args: string[]): Promise<unknown> => {
    const client = createClient({ url, RESP: 2, socket: { reconnectStrategy: false } })
    client.on('error', () => {})
    await client.connect()
    try {
      return await client.sendCommand(args)
    } finally {
      client.destroy()
    }
  }
  const kill = async (): Promise<void> => {
    if (child !== undefined) await endProcess(child)
    child = undefined
  }

  return {
    url,
    port,
    send,
    clients: async () => {
      const lines = String(await send('CLIENT', 'LIST'))
        .trim()
        .split('\n')
      const field = (line: string, name: string): string => new RegExp(`(?:^| )${name}=(\\S*)`).exec(line)?.[1] ?? ''
      return lines.map((line) => ({
        id: field(line, 'id'),
        name: field(line, 'name'),
        sub: Number(field(line, 'sub')),
      }))
    },
    kill,
    restart: async () => {
      await kill()
      child = await startProcess(port, folder)
    },
    pause: () => {
      child?.kill('SIGSTOP')
    },
    resume: () => {
      child?.kill('SIGCONT')
    },
    close: async () => {
      await kill()
      process.off('exit', endWithProcess)
      await rm(folder, { recursive: true, force: true })
    },
  }
}
