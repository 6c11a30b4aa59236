// The command line behind an HTTP proxy: everything goes through it, by CONNECT, and a proxy that cannot be used is said.
import { createServer, type Server } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest'
import { startServer, type TestServer } from './support/server.ts'
import { cleanUp, makeFolder, runValise } from './support/valise.ts'

/** A name that only the proxy knows. */
const NAME = 'valise.invalid'

let server: TestServer
let folder: string
const proxies: Server[] = []

beforeAll(async () => {
  folder = makeFolder()
  server = await startServer(folder, { environment: { VALISE_ORIGINS: `http://${NAME}` } })
})
afterEach(() => {
  for (const proxy of proxies.splice(0)) {
    proxy.closeAllConnections()
    proxy.close()
  }
})
afterAll(cleanUp)

interface Proxy {
  readonly url: string
  /** What it was asked to connect to. */
  readonly asked: string[]
}

/** Leads every name to this machine, or refuses. */
async function startProxy(refusal?: string): Promise<Proxy> {
  const asked: string[] = []
  const proxy = createServer((_request, response) => response.writeHead(500).end())
  proxy.on('connect', (request, socket, head) => {
    asked.push(request.url ?? '')
    socket.on('error', () => socket.destroy())
    if (refusal !== undefined) return socket.end(`HTTP/1.1 ${refusal}\r\nContent-Length: 0\r\n\r\n`)
    const target = connect(Number(request.url?.split(':')[1]), '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
      target.write(head)
      target.pipe(socket).pipe(target)
    })
    target.on('error', () => socket.destroy())
    socket.on('close', () => target.destroy())
  })
  proxies.push(proxy)
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  return { url: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`, asked }
}

const init = (home: string, environment: Record<string, string>) => {
  const { port } = new URL(server.url)
  const flags = ['--server', `ws://${NAME}:${port}`, '--fingerprint', server.fingerprint, '--yes']
  return runValise(['init', ...flags], { home: join(folder, home), environment })
}

it('CLI-12: WebSockets and requests go through the proxy, which is asked for a name and a port', async () => {
  const proxy = await startProxy()
  const environment = { HTTP_PROXY: proxy.url }
  const made = await init('through', environment)
  expect(made.stderr).not.toMatch(/cannot be reached|No server answers/)
  expect(made.exitCode).toBe(0)
  const asked = proxy.asked.length
  // First contact, and the session.
  expect(asked).toBeGreaterThanOrEqual(2)
  const sent = await runValise(['send', 'notes'], { home: join(folder, 'through'), environment, input: 'hello\n' })
  expect(sent.exitCode).toBe(0)
  expect(proxy.asked.length).toBeGreaterThan(asked)
  expect(new Set(proxy.asked)).toEqual(new Set([`${NAME}:${new URL(server.url).port}`]))
})

it('CLI-12: a server in NO_PROXY and one of this machine are reached without it', async () => {
  const proxy = await startProxy()
  const named = await init('around', { HTTP_PROXY: proxy.url, NO_PROXY: NAME })
  expect(named.stderr).toContain('its name is not known')
  const flags = ['--server', server.url, '--fingerprint', server.fingerprint, '--yes']
  const local = await runValise(['init', ...flags], {
    home: join(folder, 'local'),
    environment: { HTTP_PROXY: proxy.url, ALL_PROXY: proxy.url },
  })
  expect(local.exitCode).toBe(0)
  expect(proxy.asked).toEqual([])
})

it('CLI-12: a proxy that refuses, is not there, or is of another kind is said, with what to do', async () => {
  const refusing = await startProxy('407 Proxy Authentication Required')
  expect((await init('refused', { HTTP_PROXY: refusing.url })).stderr).toContain('put user and password into its URL')
  expect((await init('away', { HTTP_PROXY: 'http://127.0.0.1:9' })).stderr).toContain(
    'the proxy that HTTP_PROXY or HTTPS_PROXY names cannot be reached',
  )
  expect((await init('socks', { ALL_PROXY: 'socks5://127.0.0.1:9' })).stderr).toContain(
    'only http:// and https:// proxies',
  )
})
