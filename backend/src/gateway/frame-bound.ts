// How many bytes `ws` gathers of one message before it gives up. The package takes the bound when a socket is made; a socket
// that has proved nothing yet gets a small one, which grows with what its session may send. tests/places.test.ts fails
// should the package keep it elsewhere one day.

import type { WebSocket } from 'ws'

export function setFrameBound(socket: WebSocket, maxBytes: number): void {
  const { _receiver: receiver } = socket as unknown as { readonly _receiver?: { _maxPayload?: number } }
  if (typeof receiver?._maxPayload !== 'number') throw new Error('the WebSocket has no receiver with a bound')
  receiver._maxPayload = maxBytes
}
