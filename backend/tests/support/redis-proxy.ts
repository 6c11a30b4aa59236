// A proxy in front of a Redis that writes down every command it passes on and can hold the answers back, so that a test
// decides by hand what arrives when.

import { connect, createServer } from 'node:net'
import { listenLocally, tie } from './local-listener.ts'

export interface RedisProxy {
  readonly url: string
  /** Every command so far, in the order sent, upper-case name first; `connection` counts connections from 0. */
  readonly commands: readonly { readonly connection: number; readonly args: readonly string[] }[]
  holdAnswers(): void
  releaseAnswers(): void
  close(): Promise<void>
}

/** Takes whole commands (arrays of bulk strings) off the front; returns what is left over. */
function takeCommands(input: Buffer, onCommand: (args: string[]) => void): Buffer {
  let rest = input
  for (;;) {
    const line = (from: number): { text: string; end: number } | undefined => {
      const end = rest.indexOf('\r\n', from)
      return end === -1 ? undefined : { text: rest.toString('latin1', from, end), end: end + 2 }
    }
    const head = line(0)
    if (head === undefined) return rest
    if (!head.text.startsWith('*')) throw new Error('expected an array of arguments')
    const args: string[] = []
    let at = head.end
    for (let left = Number(head.text.slice(1)); left > 0; left--) {
      const length = line(at)
      if (length === undefined) return rest
      const end = length.end + Number(length.text.slice(1))
      if (rest.length < end + 2) return rest
      args.push(rest.toString('latin1', length.end, end))
      at = end + 2
    }
    onCommand(args)
    rest = rest.subarray(at)
  }
}

export async function startRedisProxy(targetPort: number): Promise<RedisProxy> {
  const commands: { connection: number; args: string[] }[] = []
  const held: (() => void)[] = []
  let isHolding = false
  let connectionCount = 0

  const server = createServer((downstream) => {
    const connection = connectionCount++
    const upstream = connect(targetPort, '127.0.0.1')
    let unread: Buffer = Buffer.alloc(0)
    downstream.on('data', (chunk) => {
      unread = takeCommands(Buffer.concat([unread, chunk]), ([name = '', ...rest]) => {
        commands.push({ connection, args: [name.toUpperCase(), ...rest] })
      })
      upstream.write(chunk)
    })
    upstream.on('data', (chunk) => {
      const pass = () => downstream.write(chunk)
      if (isHolding) held.push(pass)
      else pass()
    })
    tie(downstream, upstream)
  })
  const listener = await listenLocally(server)

  return {
    url: `redis://127.0.0.1:${listener.port}`,
    commands,
    holdAnswers: () => {
      isHolding = true
    },
    releaseAnswers: () => {
      isHolding = false
      for (const pass of held.splice(0)) pass()
    },
    close: listener.close,
  }
}
