// A balancer in front of several nodes: passes bytes, sends new connections to the nodes that say they are ready, one
// after another, and remembers when each connection came.

import { connect, createServer, type Socket } from 'node:net'
import { listenLocally, tie } from './local-listener.ts'

export interface BalancedNode {
  readonly port: number
  /** `http://…`, asked for `/ready`. */
  readonly adminUrl: string
}

export interface Balancer {
  /** `ws://…` */
  readonly url: string
  setNodes(nodes: readonly BalancedNode[]): void
  /** When each connection was passed on, by the clock of `performance.now()`. */
  readonly acceptedAtMs: readonly number[]
  close(): Promise<void>
}

const isReady = async ({ adminUrl }: BalancedNode): Promise<boolean> => {
  try {
    return (await fetch(`${adminUrl}/ready`, { signal: AbortSignal.timeout(2000) })).ok
  } catch {
    return false
  }
}

export async function startBalancer(): Promise<Balancer> {
  const acceptedAtMs: number[] = []
  let nodes: readonly BalancedNode[] = []
  let turn = 0

  const choose = async (): Promise<BalancedNode | undefined> => {
    const first = turn++
    for (let i = 0; i < nodes.length; i++) {
      const node = nodes[(first + i) % nodes.length]
      if (node !== undefined && (await isReady(node))) return node
    }
    return undefined
  }

  const pass = async (downstream: Socket): Promise<void> => {
    downstream.on('error', () => {})
    const node = await choose()
    if (node === undefined || downstream.destroyed) return void downstream.destroy()
    const upstream = connect(node.port, '127.0.0.1')
    tie(downstream, upstream)
    upstream.on('connect', () => acceptedAtMs.push(performance.now()))
    downstream.pipe(upstream)
    upstream.pipe(downstream)
  }

  const server = createServer({ pauseOnConnect: false }, (socket) => void pass(socket))
  const listener = await listenLocally(server)
  return {
    url: `ws://127.0.0.1:${listener.port}`,
    setNodes: (next) => {
      nodes = next
    },
    acceptedAtMs,
    close: listener.close,
  }
}
