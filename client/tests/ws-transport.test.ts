// The transport port over a real socket: what the client relies on, whatever carries it.

import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { type WebSocket, WebSocketServer } from 'ws'
import { createWsTransport } from '../src/node/ws-transport.ts'
import type { Connection } from '../src/transport.ts'
import { until } from './support/until.ts'

const servers: WebSocketServer[] = []
afterEach(() => {
  for (const server of servers.splice(0)) {
    for (const client of server.clients) client.terminate()
    server.close()
  }
})

async function createScene() {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0 })
  servers.push(server)
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const received: (string | Uint8Array)[] = []
  const closes: (readonly [number, string])[] = []
  let opened = 0
  const accepted = once(server, 'connection')
  const connect = (url = `ws://127.0.0.1:${port}`): Connection =>
    createWsTransport({ maxFrameBytes: 1000 }).connect(url, {
      onOpen: () => {
        opened += 1
      },
      onMessage: (data) => received.push(data),
      onClose: (code, reason) => closes.push([code, reason]),
    })
  const far = async (): Promise<WebSocket> => (await accepted)[0]
  return { connect, far, received, closes, opened: () => opened }
}

test('texts and bytes arrive as what they were sent, in order, both ways', async () => {
  const { connect, far, received, opened } = await createScene()
  const connection = connect()
  const socket = await far()
  const echoed: unknown[] = []
  socket.on('message', (data, isBinary) => echoed.push(isBinary ? 'bytes' : data.toString()))
  await until(() => opened() === 1, 'the connection')
  connection.send('hello')
  connection.send(new Uint8Array([1, 2, 3]))
  socket.send('welcome')
  socket.send(new Uint8Array([4, 5]))
  await until(() => received.length === 2 && echoed.length === 2, 'all messages')
  expect(received).toEqual(['welcome', new Uint8Array([4, 5])])
  expect(Buffer.isBuffer(received[1])).toBe(false)
  expect(echoed).toEqual(['hello', 'bytes'])
})

test('a close is told once, with its code and reason', async () => {
  const { connect, far, closes } = await createScene()
  const connection = connect()
  ;(await far()).close(4403, 'This device was revoked')
  await until(() => closes.length === 1, 'the close')
  connection.close(1000, '')
  connection.send('too late')
  expect(closes).toEqual([[4403, 'This device was revoked']])
})

test('a server that is not there is a close, not an error', async () => {
  const { connect, closes } = await createScene()
  connect('ws://127.0.0.1:1')
  await until(() => closes.length === 1, 'the close')
  expect(closes).toEqual([[1006, '']])
})

test('P5: a frame above the bound ends the connection unread', async () => {
  const { connect, far, received, closes } = await createScene()
  connect()
  ;(await far()).send(new Uint8Array(1001))
  await until(() => closes.length === 1, 'the close')
  expect(received).toEqual([])
})

test('P5: what is not read stays in the socket until reading goes on', async () => {
  const { connect, far, received, opened } = await createScene()
  const connection = connect()
  const socket = await far()
  await until(() => opened() === 1, 'the connection')
  connection.pause?.()
  await new Promise((resolve) => socket.send('later', resolve))
  await new Promise((resolve) => setImmediate(resolve))
  expect(received).toEqual([])
  connection.resume?.()
  await until(() => received.length === 1, 'the message')
})
