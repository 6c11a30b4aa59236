// A proxy in front of PostgreSQL: it passes everything on, refuses, or falls silent in one direction or in both, and
// cuts what is open. What is held when it cuts is lost, as on a network.

import { connect, createServer, type Socket } from 'node:net'
import { listenLocally, tie } from '../support/local-listener.ts'

export interface DatabaseProxy {
  /** The database's URL, through the proxy. */
  readonly url: string
  /** Everything passes, what was held first. */
  pass(): void
  /** Connections are cut and new ones too, as soon as they come. */
  refuse(): void
  /** Connections stay, and nothing passes. */
  holdAll(): void
  /** Questions pass, answers do not. */
  holdAnswers(): void
  cut(): void
  close(): Promise<void>
}

interface Pair {
  readonly downstream: Socket
  readonly upstream: Socket
}

type Mode = 'pass' | 'refuse' | 'hold_all' | 'hold_answers'

/** `listen` is asked for each connection, and told every chunk that the server's side sends. */
export async function startDatabaseProxy(
  databaseUrl: string,
  listen: () => (chunk: Buffer) => void = () => () => {},
): Promise<DatabaseProxy> {
  const target = new URL(databaseUrl)
  const pairs = new Set<Pair>()
  let mode: Mode = 'pass'

  const apply = ({ downstream, upstream }: Pair): void => {
    if (mode === 'hold_all') downstream.pause()
    else downstream.resume()
    if (mode === 'pass') upstream.resume()
    else upstream.pause()
  }
  const enter = (next: Mode): void => {
    mode = next
    if (next === 'refuse') listener.cut()
    else for (const pair of pairs) apply(pair)
  }

  const server = createServer((downstream) => {
    downstream.on('error', () => {})
    if (mode === 'refuse') return downstream.destroy()
    const upstream = connect(Number(target.port), target.hostname)
    const pair = { downstream, upstream }
    pairs.add(pair)
    const hear = listen()
    downstream.on('data', (chunk: Buffer) => {
      hear(chunk)
      upstream.write(chunk)
    })
    upstream.on('data', (chunk) => downstream.write(chunk))
    tie(downstream, upstream)
    downstream.on('close', () => pairs.delete(pair))
    apply(pair)
  })
  const listener = await listenLocally(server)
  const url = new URL(databaseUrl)
  url.host = `127.0.0.1:${listener.port}`

  return {
    url: url.href,
    pass: () => enter('pass'),
    refuse: () => enter('refuse'),
    holdAll: () => enter('hold_all'),
    holdAnswers: () => enter('hold_answers'),
    cut: listener.cut,
    close: listener.close,
  }
}
