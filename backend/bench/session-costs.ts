// What connections cost the server: CPU time until a session stands (socket, upgrade, handshake, device lookup), CPU time
// of a resume that finds nothing new, and memory of a connected device that does nothing.

import type { DeviceKeys } from '../../client/src/sealing/device-keys.ts'
import { connectPeer, type Peer } from './peer.ts'
import type { ServerProcess } from './server-process.ts'
import { type BenchUser, forEachAtOnce, identityOf } from './users.ts'

export interface ConnectionsResult {
  readonly devices: number
  readonly cpuMsPerHandshake: number
  readonly handshakesPerCpuSecond: number
  readonly cpuMsPerResume: number
  /** Resident memory of the server after a garbage collection, with the devices less without, a device. */
  readonly rssBytesPerDevice: number
  /** JavaScript heap and buffers of the same. */
  readonly heapBytesPerDevice: number
}

const REQUESTS_AT_ONCE = 8

interface Device {
  readonly user: BenchUser
  readonly keys: DeviceKeys
}

export async function measureConnections(
  server: ServerProcess,
  users: readonly BenchUser[],
): Promise<ConnectionsResult> {
  const devices = users.flatMap((user): Device[] => [
    { user, keys: user.publisher },
    { user, keys: user.receiver },
  ])
  // Memory the first time: later, a server holds them in what it has kept of earlier ones. CPU time the second time: by
  // then the code is compiled.
  const empty = await server.readUsage({ isCollected: true })
  const firstPeers = await connectAll(server, devices)
  await resumeAll(firstPeers)
  const idle = await server.readUsage({ isCollected: true })
  await closeAll(firstPeers)
  const before = await server.readUsage()
  const peers = await connectAll(server, devices)
  const connected = await server.readUsage()
  await resumeAll(peers)
  const resumed = await server.readUsage()
  await closeAll(peers)
  const cpuMsPerHandshake = (connected.cpuMs - before.cpuMs) / devices.length
  return {
    devices: devices.length,
    cpuMsPerHandshake,
    handshakesPerCpuSecond: 1000 / cpuMsPerHandshake,
    cpuMsPerResume: (resumed.cpuMs - connected.cpuMs) / devices.length,
    rssBytesPerDevice: (idle.rssBytes - empty.rssBytes) / devices.length,
    heapBytesPerDevice: (idle.heapBytes - empty.heapBytes) / devices.length,
  }
}

async function connectAll(server: ServerProcess, devices: readonly Device[]): Promise<Peer[]> {
  const peers: Peer[] = []
  let failure: Error | undefined
  await forEachAtOnce(devices, REQUESTS_AT_ONCE, async ({ user, keys }) => {
    const peer = await connectPeer({
      server: server.address,
      identity: identityOf(user, keys),
      signer: keys.signer,
      onLost: (error) => {
        failure ??= error
      },
    })
    peers.push(peer)
  })
  if (failure !== undefined) throw failure
  return peers
}

const resumeAll = (peers: readonly Peer[]): Promise<void> =>
  forEachAtOnce(peers, REQUESTS_AT_ONCE, async (peer) => {
    const caughtUp = peer.next('caught_up')
    peer.send({ type: 'resume', cursor: 0, log_epoch: null })
    await caughtUp
  })

async function closeAll(peers: readonly Peer[]): Promise<void> {
  await Promise.all(peers.map((peer) => peer.close()))
}
