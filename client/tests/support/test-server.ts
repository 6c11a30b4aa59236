// A small honest server in memory, the far side of the transport port: one history of events and one device log a user,
// with the checks of order a client relies on. Tests turn its answers through hooks; the real server is tested elsewhere.

import {
  applyEntry,
  type ClientMessage,
  chainAfter,
  chainStart,
  DEFAULT_LIMITS,
  type DeviceId,
  type DeviceLogState,
  equalBytes,
  findDevice,
  leafOf,
  parseEvent,
  type SealedLink,
  type ServerMessage,
  type StoredEvent,
  serverFingerprint,
  toHex,
} from '@valise/protocol'
import { nodeCrypto as crypto } from '@valise/protocol/node-crypto'
import type { Transport, TransportHandlers } from '../../src/transport.ts'
import { createServerKeys, type TestServerKeys } from './server-keys.ts'
import { acceptPeer, type Peer, SERVER_TIME_MS } from './test-peer.ts'

export interface ServerEvent {
  readonly item: StoredEvent
  readonly deviceId: DeviceId
}

export interface TestServer {
  readonly transport: Transport
  readonly fingerprint: Uint8Array
  readonly keys: TestServerKeys
  state: DeviceLogState | undefined
  readonly entries: Uint8Array[]
  readonly events: ServerEvent[]
  readonly peers: Set<Peer>
  /** Every event's bytes as they came, refused ones included. */
  readonly received: Uint8Array[]
  readonly acknowledged: number[]
  logEpoch: Uint8Array
  logEpochAtMs: number
  /** Answers instead of the honest answer; `undefined` lets the honest one through. */
  intercept: (message: ClientMessage, peer: Peer) => boolean
  /** What a client is told instead of the truth. */
  distort: (message: ServerMessage) => ServerMessage[]
  isReachable: boolean
  /** Whether all are told at once that an entry was appended. */
  tellsOfEntries: boolean
  /** Ends every connection without a word. */
  cut(code?: number, reason?: string): void
  push(message: ServerMessage): void
  append(
    entry: Uint8Array,
    boxes: readonly { device_id: DeviceId; box: Uint8Array }[],
    links?: readonly SealedLink[],
  ): void
  /** What it keeps for a device. */
  envelopes(deviceId: DeviceId): {
    boxes: Map<number, Uint8Array>
    links: Map<number, Map<number, Uint8Array>>
  }
  connections: number
  /** What a device has published, stored without a look at it. */
  keep(wire: Uint8Array): ServerEvent
  /** Each live peer gets the newest events in one message. */
  announce(count: number): void
  /** The end of a device's chain. */
  chainEnd(deviceId: DeviceId): { readonly seq: number; readonly chain: Uint8Array }
}

const NOW_MS = SERVER_TIME_MS

export function createTestServer(keySeed = 7): TestServer {
  const keys = createServerKeys(keySeed)
  let boxes: { deviceId: string; epoch: number; box: Uint8Array }[] = []
  const links: { epoch: number; prev_epoch: number; box: Uint8Array }[] = []
  const lastByDevice = new Map<string, { seq: number; chain: Uint8Array }>()
  const streamSeqs = new Map<string, number>()

  const linksOf = (epoch: number): Map<number, Uint8Array> =>
    new Map(links.filter((link) => link.epoch === epoch).map((link) => [link.prev_epoch, link.box]))

  /** As a server does (DEV-18): what the device has, but never its newest box nor one of the recovery device. */
  const dropBoxes = (deviceId: DeviceId, isHeld: (epoch: number) => boolean): void => {
    if (server.state === undefined || findDevice(server.state, deviceId)?.record.role === 'recovery') return
    const own = boxes.filter((box) => box.deviceId === toHex(deviceId))
    const newest = Math.max(...own.map(({ epoch }) => epoch))
    if (isHeld(newest)) return
    boxes = boxes.filter((box) => !own.includes(box) || !isHeld(box.epoch))
  }

  const publish = (peer: Peer, wires: readonly Uint8Array[]): void => {
    const { state } = server
    if (state === undefined) return
    const stored: ServerEvent[] = []
    for (const wire of wires) {
      server.received.push(wire)
      const event = parseEvent(wire)!
      const hex = toHex(event.deviceId)
      const last = lastByDevice.get(hex) ?? { seq: 0, chain: chainStart(crypto, state.userId, event.deviceId) }
      const known = server.events.find(({ item }) => equalBytes(item[3], wire))
      if (known !== undefined) {
        peer.send({ type: 'receipts', receipts: [[event.deviceSeq, known.item[1], known.item[0], NOW_MS, true]] })
      } else if (event.deviceSeq <= last.seq) {
        peer.send({ type: 'refused', device_seq: event.deviceSeq, code: 'device_seq_conflict' })
      } else if (event.deviceSeq > last.seq + 1) {
        peer.send({ type: 'refused', device_seq: event.deviceSeq, code: 'device_seq_gap', expected: last.seq + 1 })
      } else if (!equalBytes(event.chainPrev, last.chain)) {
        peer.send({ type: 'refused', device_seq: event.deviceSeq, code: 'chain_mismatch' })
      } else if (event.logSeq < state.epoch.logSeq) {
        peer.send({ type: 'refused', device_seq: event.deviceSeq, code: 'stale_epoch' })
      } else {
        const event = keep(wire)
        stored.push(event)
        const [userSeq, streamSeq] = event.item
        peer.send({ type: 'receipts', receipts: [[last.seq + 1, streamSeq, userSeq, NOW_MS, false]] })
      }
    }
    announce(stored)
  }

  /** Stores an event without looking at it. */
  const keep = (wire: Uint8Array): ServerEvent => {
    const event = parseEvent(wire)!
    const streamSeq = (streamSeqs.get(toHex(event.streamId)) ?? 0) + 1
    streamSeqs.set(toHex(event.streamId), streamSeq)
    lastByDevice.set(toHex(event.deviceId), {
      seq: event.deviceSeq,
      chain: chainAfter(crypto, event.chainPrev, leafOf(crypto, event)),
    })
    const stored: ServerEvent = {
      item: [server.events.length + 1, streamSeq, NOW_MS, wire.slice()],
      deviceId: event.deviceId.slice() as DeviceId,
    }
    server.events.push(stored)
    return stored
  }

  const announce = (stored: readonly ServerEvent[]): void => {
    if (stored.length === 0) return
    for (const peer of server.peers) if (peer.isLive) deliver(peer, stored)
  }

  const deliver = (peer: Peer, events: readonly ServerEvent[], page = {}): void => {
    const foreign = events.filter(({ deviceId }) => !equalBytes(deviceId, peer.deviceId))
    const through = events.at(-1)?.item[0] ?? server.events.length
    if (foreign.length > 0) peer.send({ type: 'events', events: foreign.map(({ item }) => item), through, ...page })
  }

  const answer = (peer: Peer, message: ClientMessage): void => {
    if (server.intercept(message, peer)) return
    switch (message.type) {
      case 'register':
        server.append(message.entry, message.boxes)
        peer.send({
          type: 'registered',
          user_id: server.state!.userId,
          device_log_seq: 0,
          device_log_head: server.state!.head,
          key_epoch: 1,
        })
        return
      case 'resume':
        deliver(
          peer,
          server.events.filter(({ item }) => item[0] > message.cursor),
          { at: NOW_MS, head: server.events.length },
        )
        peer.isLive = true
        peer.send({ type: 'caught_up', user_seq: server.events.length })
        return
      case 'publish':
        return publish(peer, message.events)
      case 'ack':
        server.acknowledged.push(message.cursor)
        return
      case 'fetch_device_log': {
        const entries = server.entries.slice((message.after_seq ?? -1) + 1)
        const { request_id } = message
        peer.send({ type: 'device_log', request_id, entries, head_seq: server.entries.length - 1 })
        return
      }
      case 'fetch_envelopes': {
        const own = boxes.filter(({ deviceId, epoch }) => {
          return deviceId === toHex(peer.deviceId) && epoch > message.after_epoch
        })
        peer.send({
          type: 'envelopes',
          request_id: message.request_id,
          boxes: own.map(({ epoch, box }) => ({ epoch, box })),
          links: links.filter(({ epoch }) => epoch > message.after_epoch),
          is_last: true,
        })
        if (message.after_epoch > 0) dropBoxes(peer.deviceId, (n) => n <= message.after_epoch)
        return
      }
      case 'append_device_log': {
        const { request_id, entry } = message
        if (!applyEntry(crypto, server.state, entry).ok) {
          peer.send({ type: 'error', code: 'log_head_moved', request_id })
          return
        }
        server.append(entry, message.boxes, message.links)
        peer.send({ type: 'device_log_appended', request_id, seq: server.state!.seq })
        const { epoch, seq } = server.state!
        if (epoch.logSeq === seq) dropBoxes(peer.deviceId, (n) => epoch.links.some((link) => link.n === n))
        if (server.tellsOfEntries) {
          const head_seq = server.state!.seq
          for (const each of server.peers) each.send({ type: 'device_log', request_id: null, entries: [], head_seq })
        }
        return
      }
      case 'ping':
        return peer.send({ type: 'pong', id: message.id })
      case 'pong':
        return
    }
  }

  const cuts = new Set<(code: number, reason: string) => void>()
  const accept = (handlers: TransportHandlers) => {
    server.connections += 1
    const connection = acceptPeer(handlers, {
      signer: keys.signer,
      nextFingerprint: keys.nextFingerprint,
      isReachable: server.isReachable,
      publicKeyOf: (claim) => {
        if (claim.mode === 'register') return claim.publicKey
        return server.state && findDevice(server.state, claim.deviceId)?.record.edPub
      },
      greet: (claim, sessionId) => ({
        type: 'session_established',
        session_id: sessionId,
        user_id: claim.mode === 'recovery' ? server.state!.userId : claim.userId,
        device_id: claim.deviceId,
        server_time: NOW_MS,
        expires_at: NOW_MS + 86_400_000,
        limits: DEFAULT_LIMITS,
        device_log_seq: server.state?.seq ?? 0,
        device_log_head: server.state?.head ?? new Uint8Array(32),
        key_epoch: server.state?.epoch.n ?? 0,
        log_epoch: server.logEpoch,
        log_epoch_at: server.logEpochAtMs,
        last_device_seq: lastByDevice.get(toHex(claim.deviceId))?.seq ?? 0,
        head: server.events.length,
      }),
      distort: (message) => server.distort(message),
      onOpen: (peer) => server.peers.add(peer),
      onMessage: answer,
      onClose: (peer) => server.peers.delete(peer),
    })
    cuts.add(connection.cut)
    return connection
  }

  const server: TestServer = {
    transport: { connect: (_url, handlers) => accept(handlers), http: keys.http },
    keys,
    get fingerprint() {
      return serverFingerprint(crypto, keys.signer.publicKey)
    },
    state: undefined,
    entries: [],
    events: [],
    peers: new Set(),
    received: [],
    acknowledged: [],
    logEpoch: new Uint8Array(16).fill(1),
    logEpochAtMs: NOW_MS - 86_400_000,
    intercept: () => false,
    distort: (message) => [message],
    isReachable: true,
    tellsOfEntries: false,
    connections: 0,
    keep,
    announce: (count) => announce(server.events.slice(server.events.length - count)),
    chainEnd: (deviceId) =>
      lastByDevice.get(toHex(deviceId)) ?? { seq: 0, chain: chainStart(crypto, server.state!.userId, deviceId) },
    envelopes: (deviceId) => ({
      boxes: new Map(boxes.filter((box) => box.deviceId === toHex(deviceId)).map(({ epoch, box }) => [epoch, box])),
      links: new Map([...new Set(links.map(({ epoch }) => epoch))].map((epoch) => [epoch, linksOf(epoch)])),
    }),
    cut: (code = 1006, reason = '') => {
      for (const close of cuts) close(code, reason)
      cuts.clear()
    },
    push: (message) => {
      for (const peer of server.peers) peer.send(message)
    },
    append: (entry, sealed, sealedLinks = []) => {
      const applied = applyEntry(crypto, server.state, entry)
      if (!applied.ok) throw new Error(`the entry was refused: ${applied.rule}`)
      server.state = applied.state
      server.entries.push(entry)
      const epoch = applied.state.epoch.n
      for (const { device_id, box } of sealed) boxes.push({ deviceId: toHex(device_id), epoch, box })
      for (const { prev_epoch, box } of sealedLinks) links.push({ epoch, prev_epoch, box })
    },
  }
  return server
}
