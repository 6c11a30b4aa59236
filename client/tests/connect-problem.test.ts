// Why a server cannot be reached, asked of real sockets: each reason has its own words, and says what to do.

import { createServer as createHttpServer, type RequestListener } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { type AddressInfo, createServer as createTcpServer, type Server } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { WebSocketServer } from 'ws'
import { CONNECT_PROBLEMS, ConnectError, type ConnectProblem, describeConnectProblem } from '../src/connect-problem.ts'
import { nodeHttp } from '../src/node/node-http.ts'
import { createWsTransport } from '../src/node/ws-transport.ts'
import { SELF_SIGNED } from './support/self-signed.ts'

const undo: (() => unknown)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  undo.push(() => new Promise((resolve) => server.close(resolve)))
  return (server.address() as AddressInfo).port
}

const answerWith =
  (status: number, headers: Record<string, string> = {}): RequestListener =>
  (_request, response) =>
    response.writeHead(status, { connection: 'close', ...headers }).end()

const ofWebSocket = (url: string): Promise<ConnectProblem | undefined> =>
  new Promise((resolve) => {
    createWsTransport({ maxFrameBytes: 1024 }).connect(url, {
      onOpen: () => resolve(undefined),
      onMessage: () => {},
      onClose: (_code, _reason, problem) => resolve(problem),
    })
  })

const ofRequest = (url: string): Promise<ConnectProblem | undefined> =>
  nodeHttp({ method: 'GET', url }).then(
    () => undefined,
    (error: unknown) => (error instanceof ConnectError ? error.problem : undefined),
  )

/** By a WebSocket and by a request. */
const both = (address: string, isTls = false): Promise<(ConnectProblem | undefined)[]> =>
  Promise.all([ofWebSocket(`ws${isTls ? 's' : ''}://${address}`), ofRequest(`http${isTls ? 's' : ''}://${address}`)])

describe('a server that cannot be reached', () => {
  test('CLI-11: nothing listens there', async () => {
    const server = createTcpServer()
    const port = await listen(server)
    await new Promise((resolve) => server.close(resolve))
    expect(await both(`127.0.0.1:${port}`)).toEqual(['refused', 'refused'])
  })

  test('CLI-11: its name is not known', async () => {
    expect(await both('no-such-host.invalid')).toEqual(['unknown_name', 'unknown_name'])
  })

  test('CLI-11: its certificate is signed by nobody this device trusts', async () => {
    const port = await listen(createHttpsServer(SELF_SIGNED, answerWith(200)))
    expect(await both(`localhost:${port}`, true)).toEqual(['untrusted_certificate', 'untrusted_certificate'])
  })

  test('CLI-11: TLS is spoken to a port without it, and plain HTTP to a port with it', async () => {
    const plain = await listen(createHttpServer(answerWith(200)))
    expect(await both(`127.0.0.1:${plain}`, true)).toEqual(['plain_behind_tls', 'plain_behind_tls'])
    // Some say so in TLS, others end the connection without a word.
    const alerting = await listen(
      createTcpServer((socket) => socket.resume().end(Buffer.from('15030100020246', 'hex'))),
    )
    expect(await both(`127.0.0.1:${alerting}`)).toEqual(['tls_behind_plain', 'tls_behind_plain'])
    const tls = await listen(createHttpsServer(SELF_SIGNED, answerWith(200)))
    expect(await both(`127.0.0.1:${tls}`)).toEqual(['broken_off', 'broken_off'])
  })

  test('CLI-11: it redirects elsewhere', async () => {
    const port = await listen(createHttpServer(answerWith(301, { location: 'https://elsewhere.invalid/' })))
    expect(await both(`127.0.0.1:${port}`)).toEqual(['redirect', 'redirect'])
  })

  test('CLI-11: a proxy in front does not pass the upgrade on; a refusal of the server itself is none of that', async () => {
    for (const status of [200, 400, 404, 426, 502]) {
      const port = await listen(createHttpServer(answerWith(status)))
      expect(await ofWebSocket(`ws://127.0.0.1:${port}`), String(status)).toBe('no_upgrade')
    }
    for (const status of [429, 503]) {
      const port = await listen(createHttpServer(answerWith(status)))
      expect(await ofWebSocket(`ws://127.0.0.1:${port}`), String(status)).toBeUndefined()
    }
  })

  test('CLI-11: one that was reached has none of these', async () => {
    const server = createHttpServer(answerWith(200))
    const sockets = new WebSocketServer({ server })
    const port = await listen(server)
    undo.push(() => {
      for (const socket of sockets.clients) socket.terminate()
    })
    expect(await both(`127.0.0.1:${port}`)).toEqual([undefined, undefined])
  })

  test('CLI-11: every reason says what to do, in words of its own', () => {
    const texts = CONNECT_PROBLEMS.map(describeConnectProblem)
    expect(new Set(texts).size).toBe(texts.length)
    for (const text of texts) expect(text).toMatch(/[;?]/)
  })
})
