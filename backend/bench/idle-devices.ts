// Many devices that do nothing. Each is a user of its own, so each has a hub and a channel. They are written straight
// into the tables, because registering them as clients do would take longer than what is measured; their handshakes are
// real. Sockets come from several loopback addresses, each with ephemeral ports of its own.

import { type ClientIdentity, deviceIdFromHash, type Signer, toUserId } from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import { type Database, openPostgres } from '../src/db/postgres.ts'
import { insertGenesis } from '../src/db/queries/device-log.ts'
import { createLog } from '../src/telemetry/log.ts'
import { createMetrics } from '../src/telemetry/metrics.ts'
import { connectPeer, type Peer, type ServerAddress } from './peer.ts'
import { forEachAtOnce } from './users.ts'

export interface IdleDevice {
  readonly identity: ClientIdentity
  readonly signer: Signer
  readonly localAddress: string
}

const ROLE_MANAGER = 2
const DEVICES_AN_ADDRESS = 5000
const INSERTS_AT_ONCE = 8

/** The tables must stand: start a server on the database first. */
export async function createIdleDevices(databaseUrl: string, count: number): Promise<IdleDevice[]> {
  const devices = Array.from({ length: count }, (_, i) => createDevice(i))
  const db = await openPostgres({
    url: databaseUrl,
    poolSize: INSERTS_AT_ONCE,
    log: createLog({ level: 'warn' }),
    metrics: createMetrics().database,
    slowQueryMs: 10_000,
  })
  try {
    await forEachAtOnce(devices, INSERTS_AT_ONCE, (device) => insertDevice(db, device))
  } finally {
    await db.close()
  }
  return devices
}

function createDevice(index: number): IdleDevice {
  const signer = crypto.createSigner(crypto.randomBytes(32))
  const userId = toUserId(crypto.randomBytes(32))
  const deviceId = deviceIdFromHash(crypto.randomBytes(32))
  if (userId === undefined) throw new Error('32 bytes made no user_id')
  return {
    identity: {
      mode: 'device',
      userId,
      deviceId,
      publicKey: signer.publicKey,
      logSeq: 0,
      logHead: new Uint8Array(32),
      canRekey: true,
      clientInfo: 'valise-bench',
    },
    signer,
    localAddress: `127.0.0.${2 + Math.floor(index / DEVICES_AN_ADDRESS)}`,
  }
}

const insertDevice = (db: Database, { identity: { userId, deviceId, publicKey } }: IdleDevice): Promise<void> =>
  db.transaction({ name: 'bench' }, async (tx) => {
    await insertGenesis(tx, {
      userId,
      seq: 0,
      prevHead: new Uint8Array(32),
      head: crypto.randomBytes(32),
      entry: crypto.randomBytes(300),
      added: [{ deviceId, edPub: publicKey, role: ROLE_MANAGER, chain: crypto.randomBytes(32) }],
      revoked: [],
      roles: [],
      epoch: { n: 1, links: [] },
      boxes: [],
      suspended: [],
      cuts: [],
      pendingRecovery: undefined,
      pendingClose: undefined,
      countedDeviceId: undefined,
      isClosed: false,
    })
  })

/** Connected and live. `onLost` is for a connection that ends without being closed here. */
export async function connectIdle(server: ServerAddress, device: IdleDevice, onLost: () => void): Promise<Peer> {
  const peer = await connectPeer({ server, ...device, onLost })
  const caughtUp = peer.next('caught_up')
  peer.send({ type: 'resume', cursor: 0, log_epoch: null })
  await caughtUp
  return peer
}
