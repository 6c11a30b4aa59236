// HTTP servers that begin and end: listening resolves to the port really bound, closing leaves no connection behind.

import type { Server } from 'node:http'

/** Rejects when the address cannot be bound. */
export function listen(server: Server, port: number, host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      server.removeListener('error', reject)
      const address = server.address()
      resolve(typeof address === 'object' && address !== null ? address.port : port)
    })
  })
}

export function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}

/** As it stands in a URL. */
export const formatHost = (host: string): string => (host.includes(':') ? `[${host}]` : host)
