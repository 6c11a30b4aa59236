// What a connection sends in one turn of the event loop, over a real socket.

import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { WebSocket, WebSocketServer } from 'ws'
import { createPeerSocket } from '../src/gateway/peer-socket.ts'

let server: WebSocketServer | undefined
afterEach(() => server?.close())

test('P5: what is sent in a gathered turn waits for its end, leaves together and in order', async () => {
  server = new WebSocketServer({ host: '127.0.0.1', port: 0 })
  await once(server, 'listening')
  const client = new WebSocket(`ws://127.0.0.1:${(server.address() as AddressInfo).port}`)
  const [accepted, request] = await once(server, 'connection')
  if (client.readyState !== WebSocket.OPEN) await once(client, 'open')
  const peer = createPeerSocket(accepted, {
    transport: request.socket,
    sendBufferBytes: 1000,
    onClose: () => {},
    onPaused: () => {},
    onResting: () => {},
  })
  const received: string[] = []
  const all = new Promise<void>((resolve) => {
    client.on('message', (data) => {
      if (received.push(String(data)) === 3) resolve()
    })
  })

  peer.send('alone')
  const left = peer.bufferedBytes()
  peer.gatherTurn()
  peer.send('first')
  const held = peer.bufferedBytes()
  await Promise.resolve()
  peer.send('second')
  expect({ left, isHeld: held > 0, isMoreHeld: peer.bufferedBytes() > held }).toEqual({
    left: 0,
    isHeld: true,
    isMoreHeld: true,
  })
  await all
  expect(received).toEqual(['alone', 'first', 'second'])
  expect(peer.bufferedBytes()).toBe(0)
  client.terminate()
})
