// What connections cost the server: CPU time until a session stands (socket, upgrade, handshake, device lookup), CPU time
// of a resume that finds nothing new, and memory of a connected device that does nothing.

import type { DeviceKeys } from '../../client/src/sealing/device-keys.ts'
import { resume } from './load.ts'
import { median } from './median.ts'
import { connectPeer, type Peer } from './peer.ts'
import type { ServerProcess } from './server-process.ts'
import { type BenchUser, forEachAtOnce, identityOf } from './users.ts'

export interface ConnectionsResult {
  readonly devices: number
  readonly cpuMsPerHandshake: number
  readonly handshakesPerCpuSecond: number
  readonly cpuMsPerResume: number
  /** JavaScript heap and buffers of the server after a garbage collection, with the devices less without, a device. */
  readonly heapBytesPerDevice: number
}

const REQUESTS_AT_ONCE = 8
/** Of all devices: what is measured is code that V8 has compiled. */
const WARM_UP_ROUNDS = 6
const MEASURED_ROUNDS = 5
const REHEARSED_DEVICES = 100
/** Connected throughout. When the last connection is gone, the next collection throws away the code compiled for them. */
const STAYING_DEVICES = 8

interface Device {
  readonly user: BenchUser
  readonly keys: DeviceKeys
}

/** CPU time on `server`; memory on one that `startFresh` gives, whose heap nothing else has stretched. */
export async function measureConnections(
  server: ServerProcess,
  users: readonly BenchUser[],
  startFresh: () => Promise<ServerProcess>,
): Promise<ConnectionsResult> {
  const devices = users.flatMap((user): Device[] => [
    { user, keys: user.publisher },
    { user, keys: user.receiver },
  ])
  const heapBytesPerDevice = await measureHeap(startFresh, devices)
  // When the code is compiled, and as in service: nobody asks for a collection of garbage, some devices are always there.
  const staying = await connectAll(server, devices.slice(0, STAYING_DEVICES))
  const coming = devices.slice(STAYING_DEVICES)
  const rounds: Round[] = []
  for (let round = 0; round < WARM_UP_ROUNDS + MEASURED_ROUNDS; round++) {
    const measured = await measureRound(server, coming)
    if (round >= WARM_UP_ROUNDS) rounds.push(measured)
  }
  await closeAll(staying)
  const cpuMsPerHandshake = median(rounds.map((round) => round.cpuMsPerHandshake))
  return {
    devices: devices.length,
    cpuMsPerHandshake,
    handshakesPerCpuSecond: 1000 / cpuMsPerHandshake,
    cpuMsPerResume: median(rounds.map((round) => round.cpuMsPerResume)),
    heapBytesPerDevice,
  }
}

/** Resident memory says little about so few: the heap grows in steps of their size. `connections` measures it. */
async function measureHeap(startFresh: () => Promise<ServerProcess>, devices: readonly Device[]): Promise<number> {
  const server = await startFresh()
  try {
    // A rehearsal, so that code and pools are there before.
    await closeAll(await connectAll(server, devices.slice(0, REHEARSED_DEVICES)))
    const empty = await server.readUsage({ isCollected: true })
    const peers = await connectAll(server, devices)
    await resumeAll(peers)
    const idle = await server.readUsage({ isCollected: true })
    await closeAll(peers)
    return (idle.heapBytes - empty.heapBytes) / devices.length
  } finally {
    await server.close()
  }
}

interface Round {
  readonly cpuMsPerHandshake: number
  readonly cpuMsPerResume: number
}

async function measureRound(server: ServerProcess, devices: readonly Device[]): Promise<Round> {
  const before = await server.readUsage()
  const peers = await connectAll(server, devices)
  const connected = await server.readUsage()
  await resumeAll(peers)
  const resumed = await server.readUsage()
  await closeAll(peers)
  return {
    cpuMsPerHandshake: (connected.cpuMs - before.cpuMs) / devices.length,
    cpuMsPerResume: (resumed.cpuMs - connected.cpuMs) / devices.length,
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

const resumeAll = (peers: readonly Peer[]): Promise<void> => forEachAtOnce(peers, REQUESTS_AT_ONCE, resume)

async function closeAll(peers: readonly Peer[]): Promise<void> {
  await Promise.all(peers.map((peer) => peer.close()))
}
